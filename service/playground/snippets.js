/** The commands that send a request (see request.js) without this page. Pure functions: text in, text out. */

import { picturesIn } from "./request.js";

const PLAIN = /^[\w@%+=:,./-]+$/;
const sh = (text) => (PLAIN.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const quoted = (text) => JSON.stringify(text); // Python reads its escapes as JavaScript does

/** For a POSIX shell. The key stands in $API_KEY: it is shown nowhere. */
export function curl(request, server, keyed) {
  const samples = [...new Set(pictures(request).filter(({ sample }) => sample).map(({ name }) => name))];
  // Into a folder of their own: a file of the same name where the command runs is somebody's own.
  const downloads = samples.length ? ["samples=$(mktemp -d)\n"] : [];
  for (const name of samples) downloads.push(`curl -sS ${sh(`${server}/playground/samples/${name}`)} -o "$samples/${name}"\n`);
  const parts = [`curl ${sh(server + request.path)}`];
  if (keyed) parts.push('-H "Authorization: Bearer $API_KEY"');
  parts.push(...(request.files ? formArguments(request) : jsonArguments(request)));
  return downloads.join("") + parts.join(" \\\n  ");
}

function formArguments({ files, fields }) {
  return [
    ...files.map(({ name, sample }) => (sample ? `-F "file=@$samples/${name}"` : `-F ${sh(`file=@${formName(name)}`)}`)),
    ...fields.map(([name, value]) => `--form-string ${sh(`${name}=${value}`)}`),
  ];
}

/** curl ends a file's name at `;` or `,`, unless it stands in double quotes. */
function formName(name) {
  return PLAIN.test(name) && !name.includes(",") ? name : `"${name.replace(/["\\]/g, "\\$&")}"`;
}

function jsonArguments({ json }) {
  const header = "-H 'Content-Type: application/json'";
  if (!picturesIn(json).length) return [header, `-d ${sh(JSON.stringify(json))}`];
  const text = written(json, HERE_DOCUMENT);
  let end = "END";
  while (text.includes(end)) end += "_"; // names of files may have lines
  return [header, `-d @- <<${end}\n${text}\n${end}`];
}

const path = ({ name, sample }) => (sample ? `"$samples/${name}"` : sh(name));

/** JSON in which the shell fills in the pictures, and nothing else. */
const HERE_DOCUMENT = {
  scalar: (value) => JSON.stringify(value).replace(/[\\$`]/g, "\\$&"),
  list: (pictures) => `[${pictures.map((picture) => `\n  {"image": "$(base64 < ${path(picture)} | tr -d '\\n')"}`).join(",")}\n]`,
};

/** For Python with httpx. */
export function python(request, server, keyed) {
  const files = pictures(request);
  const encoded = !request.files && files.length > 0;
  const local = files.some(({ sample }) => !sample);
  const standard = [encoded && "import base64", keyed && "import os", local && "from pathlib import Path"].filter(Boolean);
  const text = [...standard, ...(standard.length ? [""] : []), "import httpx  # pip install httpx", "", `server = ${quoted(server)}`];
  if (files.length) text.push("pictures = [", ...files.map((picture) => `    ${source(picture)},`), "]");
  if (encoded) text.push('images = [{"image": base64.b64encode(picture).decode()} for picture in pictures]');
  text.push("answer = httpx.post(", `    f"{server}${request.path}",`);
  if (keyed) text.push('    headers={"Authorization": f"Bearer {os.environ[\'API_KEY\']}"},');
  if (request.files) text.push('    files=[("file", picture) for picture in pictures],');
  if (request.json) text.push(`    json=${written(request.json, PYTHON)},`);
  else if (request.fields.length) text.push(`    data=${written(grouped(request.fields), PYTHON)},`);
  return [...text, ")", "answer.raise_for_status()", "print(answer.json())"].join("\n");
}

function source({ name, sample }) {
  return sample
    ? `httpx.get(f"{server}/playground/samples/${name}").content`
    : `Path(${quoted(name)}).read_bytes()`;
}

const PYTHON = {
  scalar: (value) => (value === true ? "True" : value === false ? "False" : quoted(value)),
  list: () => "images",
};

/** [[name, value]] -> {name: value}, with a list where a name is repeated. */
function grouped(fields) {
  const groups = {};
  for (const [name, value] of fields) groups[name] = name in groups ? [groups[name], value].flat() : value;
  return groups;
}

/** A tree of objects, lists and scalars as text; a list of pictures is the style's own matter. */
function written(value, style) {
  if (Array.isArray(value)) {
    const inside = picturesIn(value);
    if (inside.length) return style.list(inside.map(({ picture }) => picture));
    return `[${value.map((each) => written(each, style)).join(", ")}]`;
  }
  if (value === null || typeof value !== "object") return style.scalar(value);
  return `{${Object.entries(value).map(([name, each]) => `${quoted(name)}: ${written(each, style)}`).join(", ")}}`;
}

const pictures = (request) => request.files ?? picturesIn(request.json).map(({ picture }) => picture);
