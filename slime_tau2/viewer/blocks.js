// Data in the page. `Viewer.block(name)` unpacks a block (viewer/blocks.py) and keeps the last ones; a page may call it
// before the whole file is loaded. `Viewer.make` is the one way in which pages make elements: words become text nodes.
"use strict";
const Viewer = {};

Viewer.make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
};

Viewer.parsed = new Promise((done) => {
  if (document.readyState !== "loading") done();
  else document.addEventListener("DOMContentLoaded", () => done());
});

Viewer.unpack = async (base64) => {
  const raw = atob(base64), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

(() => {
  const KEPT = 24, kept = new Map(); // the order of a Map is that of insertion: its first is the one unused for longest
  async function load(name) {
    const find = () => document.querySelector(`script[data-block="${CSS.escape(name)}"]`);
    let element = find();
    // an element that is still being parsed may hold half of its text: what follows it says that it is whole
    if (!element || !element.nextElementSibling) { await Viewer.parsed; element = find(); }
    if (!element) throw new Error(`the page has no block ${name}`);
    return Viewer.unpack(element.textContent);
  }
  Viewer.block = (name) => {
    const value = kept.get(name) || load(name);
    kept.delete(name);
    kept.set(name, value);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    return value;
  };
})();
