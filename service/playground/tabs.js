/** The tabs, with arrow keys as people who use them expect, and a fragment for each in the address. */

import { write } from "./address.js";
import { byId } from "./dom.js";

export function tabs() {
  const all = [...document.querySelectorAll("[role=tab]")];
  const open = (tab) => {
    for (const each of all) {
      each.setAttribute("aria-selected", String(each === tab));
      each.tabIndex = each === tab ? 0 : -1;
      byId(each.getAttribute("aria-controls")).hidden = each !== tab;
    }
  };
  const named = () => byId(`tab-${location.hash.slice(1).split("?")[0]}`);
  for (const [index, tab] of all.entries()) {
    tab.addEventListener("click", () => {
      open(tab);
      write();
    });
    tab.addEventListener("keydown", ({ key }) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: -1 }[key];
      if (to === undefined) return;
      const next = all.at(to % all.length);
      next.focus();
      next.click();
    });
  }
  const follow = () => all.includes(named()) && open(named());
  addEventListener("hashchange", follow);
  open(all[0]);
  follow();
}
