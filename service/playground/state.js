/** What the parts of the page share. Whoever changes it calls `changed`; whoever shows it listens with `onChange`. */

export const state = {
  info: null, // the answer of GET /info, once there is one
  model: null, // the entry of info.models that is asked
  pictures: [], // {file, name, url, sample}
};

const bus = new EventTarget();
export const changed = () => bus.dispatchEvent(new Event("change"));
export const onChange = (listener) => bus.addEventListener("change", listener);

/** The id to send as `model`, or null for the server's default. */
export function modelToName() {
  const models = state.info?.models ?? [];
  return state.model && state.model.id !== models[0]?.id ? state.model.id : null;
}

// Results go on showing a picture after it was removed: its URL goes when nothing in the page has the picture any more.
const unused = new FinalizationRegistry((url) => URL.revokeObjectURL(url));

/** The picture, shown from `blob`. */
export function addressed(picture, blob) {
  picture.url = URL.createObjectURL(blob);
  unused.register(picture, picture.url);
  return picture;
}

/** 12345.6 -> "12,346". */
export const many = (count) => Math.round(count).toLocaleString("en");

/** 33554432 -> "32 MiB". */
export function bytes(count) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${Number(count.toFixed(count < 10 ? 1 : 0))} ${units[unit]}`;
}
