// The trajectory viewer. What was said is only ever put into text nodes. The list draws the rows that can be seen; conversations
// stay compressed until one of their chunk is opened.
"use strict";
const rows = JSON.parse(document.getElementById("rows").textContent);
const chunks = JSON.parse(document.getElementById("chunks").textContent);
const unpacked = new Map();
const ROW = 30, $ = (id) => document.getElementById(id);
const list = $("list"), space = $("space"), talk = $("talk");
let shown = [], open = -1;

const outcome = (row) => (row[4] === null ? "none" : row[4] > 1 - 1e-6 ? "won" : "lost");
function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

for (const column of [0, 1, 6]) {
  const values = [...new Set(rows.map((r) => r[column]))];
  if (column) values.sort();
  for (const value of values) $("f" + column).append(new Option(value, value));
  $("f" + column).addEventListener("change", filter);
}
$("outcome").addEventListener("change", filter);
$("find").addEventListener("input", filter);
$("shade").addEventListener("change", () => open >= 0 && show(open));

function filter() {
  const [a, b, c, d, e] = [$("f0").value, $("f1").value, $("f6").value, $("outcome").value, $("find").value.trim().toLowerCase()];
  shown = [];
  rows.forEach((r, n) => {
    if ((!a || r[0] === a) && (!b || r[1] === b) && (!c || r[6] === c) && (!d || outcome(r) === d) && (!e || r[2].toLowerCase().includes(e))) shown.push(n);
  });
  $("count").textContent = `${shown.length} of ${rows.length}`;
  space.style.height = shown.length * ROW + "px";
  list.scrollTop = 0;
  draw();
}

function draw() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5), last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 12);
  space.replaceChildren(...shown.slice(first, last).map((n, i) => {
    const r = rows[n], kind = outcome(r), row = make("div", "row" + (n === open ? " open" : ""));
    row.style.top = (first + i) * ROW + "px";
    row.dataset.n = n;
    row.append(make("span", "", r[0]), make("span", kind, { won: "✓", lost: "✗", none: "–" }[kind]), make("span", "", r[2]),
      make("span", "n", "#" + r[3]), make("span", "n", r[5] === null ? "" : r[5].toFixed(2)), make("span", "n", r[7] + (r[7] === 1 ? " turn" : " turns")));
    row.title = `${r[1]}, ended: ${r[6]}, strict partial score ${r[5]}`;
    return row;
  }));
}

async function conversation(n) {
  const chunk = Math.floor(n / CHUNK);
  if (!unpacked.has(chunk)) {
    const bytes = Uint8Array.from(atob(chunks[chunk]), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    unpacked.set(chunk, JSON.parse(await new Response(stream).text()));
  }
  return unpacked.get(chunk)[n % CHUNK];
}

const NAMES = { assistant: "agent", user: "user", tool: "tool result" };
function bubble(message) {
  const name = message.by === "unsent" ? "unsent" : "";
  const node = make("div", `message ${message.role} ${message.error ? "error" : ""} ${name}`);
  const who = make("div", "who");
  let label = NAMES[message.role] || message.role;
  if (message.role === "tool") label = (message.by === "user" ? "result of the user's call" : "tool result") + (message.error ? ", an error" : "");
  if (message.by === "unsent") label = "agent, not sent";
  who.append(make("span", "", label));
  if (message.turn) {
    const t = message.turn, gain = t.gain > 0 ? ` (+${t.gain.toFixed(2)})` : t.gain < 0 ? ` (${t.gain.toFixed(2)})` : "";
    who.append(make("span", "", `partial ${t.partial.toFixed(2)}${gain}`));
  }
  node.append(who);
  const tokens = message.turn && $("shade").checked ? message.turn.tokens : [];
  if (tokens.length) {
    const text = make("div", "text");
    for (const [piece, logprob] of tokens) {
      const token = make("span", "token", piece);
      token.style.background = `rgba(204, 102, 119, ${Math.min(0.75, -logprob / 4).toFixed(2)})`;
      token.title = `log-prob ${logprob}`;
      text.append(token);
    }
    node.append(text);
  } else if (message.text) {
    if (message.role === "tool") {
      const fold = make("details");
      fold.append(make("summary", "", message.text.length > 90 ? message.text.slice(0, 90) + " …" : message.text), make("pre", "", message.text));
      node.append(fold);
    } else node.append(make("div", "text", message.text));
  }
  for (const [tool, args] of message.calls) {
    const fold = make("details");
    fold.append(make("summary", "", `${message.role === "user" ? "does" : "calls"} ${tool}`), make("pre", "", JSON.stringify(args, null, 2)));
    node.append(fold);
  }
  if (message.turn) {
    const bar = make("div", "bar"), fill = make("i");
    fill.style.width = 100 * message.turn.partial + "%";
    bar.append(fill);
    node.append(bar);
  }
  return node;
}

async function show(n) {
  open = n;
  draw();
  const r = rows[n], body = await conversation(n);
  if (open !== n) return;
  const head = make("div"), kind = outcome(r);
  head.append(make("b", kind, `${r[2]}, attempt ${r[3]}: ${kind === "none" ? "not scored" : "reward " + r[4]}`));
  head.append(make("div", "note", `${r[0]}; ended: ${r[6]}${body.detail ? " (" + body.detail + ")" : ""}; ${r[7]} turns`));
  const checks = make("ul", "checks");
  for (const [met, type, what, counts] of body.checks) {
    const line = make("li", counts ? "" : "none");
    line.append(make("span", !counts ? "none" : met ? "won" : "lost", met ? "✓ " : "✗ "), document.createTextNode(`${type}: ${what}`));
    if (!counts) line.title = "not part of this task's reward";
    checks.append(line);
  }
  if (body.checks.some((c) => !c[3])) head.append(make("div", "note", "grey checks are not part of this task's reward"));
  const bubbles = body.messages.map(bubble), faults = make("ul", "checks");
  for (const [party, what, at] of body.faults) {
    const line = make("li", at === null ? "" : "fault", `${party}'s fault: ${what}`);
    if (at !== null) {
      bubbles[at].classList.add("marked");
      line.addEventListener("click", () => bubbles[at].scrollIntoView({ block: "center" }));
    }
    faults.append(line);
  }
  talk.replaceChildren(head, faults, checks, ...bubbles);
  talk.scrollTop = 0;
}

list.addEventListener("scroll", () => requestAnimationFrame(draw));
list.addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (row) show(+row.dataset.n);
});
list.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !shown.length) return;
  event.preventDefault();
  const at = Math.min(shown.length - 1, Math.max(0, shown.indexOf(open) + step));
  if ((at + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = (at + 1) * ROW - list.clientHeight;
  if (at * ROW < list.scrollTop) list.scrollTop = at * ROW;
  show(shown[at]);
});
filter();
