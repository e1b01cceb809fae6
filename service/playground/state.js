/** What the parts of the page share. Whoever changes it calls `changed`; whoever shows it listens with `onChange`. */

export const state = {
  info: null, // the answer of GET /info, once there is one
  model: null, // the entry of info.models that is asked
  pictures: [], // {file, name, size, url, sample}, with the size of the file that was chosen
};

const bus = new EventTarget();
export const changed = () => bus.dispatchEvent(new Event("change"));
export const onChange = (listener) => bus.addEventListener("change", listener);

/** The id to send as `model`, or null for the server's default. */
export function modelToName() {
  const models = state.info?.models ?? [];
  return state.model && state.model.id !== models[0]?.id ? state.model.id : null;
}

// Results go on showing a picture after it was removed: its URL goes when nothing has the picture any more.
const unused = new FinalizationRegistry((url) => URL.revokeObjectURL(url));

/** The picture, shown from `blob`. */
export function addressed(picture, blob) {
  picture.url = URL.createObjectURL(blob);
  unused.register(picture, picture.url);
  return picture;
}

/** A limit of the server's, once it is known. */
export const limit = (name, otherwise = Infinity) => state.info?.limits[name] ?? otherwise;
