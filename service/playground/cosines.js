/** Pictures against texts, whatever the model: from vectors that are kept, or where it mixes several for each text, from the server. */

import { inBatches } from "./batches.js";
import { base64, json } from "./request.js";
import { dot } from "./scores.js";
import { state } from "./state.js";
import { embedPictures, embedTexts, known } from "./vectors.js";

/** For each picture {cosines, error}: one cosine a text, in their order. */
export async function cosinesOf(pictures, texts, work) {
  if (state.model.mixture) return cosinesThere(pictures, texts, work);
  const vectors = await embedTexts(texts, work);
  await embedPictures(pictures, work);
  return pictures.map((picture) => {
    const { vector, error } = known(picture);
    return error ? { error } : { cosines: vectors.map((each) => dot(each, vector)) };
  });
}

async function cosinesThere(pictures, texts, work) {
  const found = new Map();
  await inBatches(pictures, {
    request: async (pairs) => {
      const candidates = await Promise.all(pairs.map(async ([, blob]) => ({ image: await base64(blob) })));
      const request = json("/similarity", { queries: texts, candidates, on_error: "item" });
      return { path: request.path, body: JSON.stringify(request.json) };
    },
    take: ({ answer: { cosine, errors } }, some) => {
      some.forEach((picture, index) => found.set(picture, { cosines: cosine.map((row) => row[index]) }));
      for (const { index, error } of errors?.candidates ?? []) found.set(some[index], { error });
    },
    spare: (picture, error) => found.set(picture, { error }),
  }, work);
  return pictures.map((picture) => found.get(picture));
}
