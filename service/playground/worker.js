/** What would hold up the page, in a thread of its own: {id, name, given} -> {id, result} or {id, error}. */

import { project } from "./project.js";

const QUALITY = 0.95;
const TASKS = { shrink, project };

addEventListener("message", async ({ data: { id, name, given } }) => {
  try {
    postMessage({ id, result: await TASKS[name](given) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
});

/**
 * A copy whose shorter side has `side` pixels, or null where the picture is no larger than that. {blob, from, to}, sizes as
 * [width, height] after the orientation that the file asks for, which the copy has taken on.
 */
async function shrink({ file, side }) {
  // Colours stay the numbers that stand in the file: the server does not convert them either.
  const picture = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  try {
    const from = [picture.width, picture.height];
    const scale = side / Math.min(...from);
    if (scale >= 1) return { blob: null, from, to: from };
    const to = from.map((length) => Math.max(1, Math.round(length * scale)));
    const canvas = new OffscreenCanvas(...to);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, ...to);
    // What may be transparent stays so: the server says what is behind it.
    const type = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
    return { blob: await canvas.convertToBlob({ type, quality: QUALITY }), from, to };
  } finally {
    picture.close();
  }
}
