// The conversation view. `Viewer.talk(talk, texts, options)` makes the elements of a conversation (viewer/talk.py has the
// shapes): {found: the talk, messages, checks, faults, database, facts, jump(n), turnAt(turn)}; the page puts them where it
// wants them. What was said only ever becomes text nodes.
"use strict";
(() => {
  const make = Viewer.make;
  const signed = (x, digits = 2) => (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x).toFixed(digits);
  const LONG = 90;

  function figure(label, value, digits) {
    const node = make("span", "gain " + (value > 0 ? "up" : value < 0 ? "down" : ""), `${label} ${signed(value, digits)}`);
    return node;
  }

  function fold(title, text, open) {
    const node = make("details");
    node.open = Boolean(open);
    node.append(make("summary", "", title), make("pre", "", text));
    return node;
  }

  // What shades a token: its log-prob where it was sampled, how far the trainer's is from it, or its advantage.
  const SHADES = {
    sampler: { name: "the sampler's log-prob", of: (t, i) => Math.min(1, -t.sampler[i] / 4), colour: "--bad" },
    trainer: { name: "the trainer's log-prob", of: (t, i) => Math.min(1, -t.trainer[i] / 4), colour: "--bad", needs: "trainer" },
    ratio: { name: "trainer − sampler", of: (t, i) => Math.max(-1, Math.min(1, (t.trainer[i] - t.sampler[i]) / 0.5)), needs: "trainer" },
    advantage: { name: "advantage", of: (t, i, most) => t.advantage[i] / most, needs: "advantage" },
  };
  Viewer.shades = SHADES;

  function shaded(tokens, shade) {
    const text = make("div", "text"), kind = SHADES[shade];
    const most = tokens.advantage ? Math.max(1e-9, ...tokens.advantage.map(Math.abs)) : 1;
    tokens.text.forEach((piece, i) => {
      const token = make("span", "token", piece), value = kind.of(tokens, i, most);
      const colour = kind.colour || (value < 0 ? "--bad" : "--good");
      token.style.background = `color-mix(in srgb, var(${colour}) ${Math.round(55 * Math.abs(value))}%, transparent)`;
      token.title = [`log-prob ${tokens.sampler[i]}`, tokens.trainer && `trainer's ${tokens.trainer[i]}`,
        tokens.advantage && `advantage ${tokens.advantage[i]}`].filter(Boolean).join(", ");
      text.append(token);
    });
    return text;
  }

  function who(message) {
    if (message.by === "unsent") return "agent, not sent";
    if (message.role !== "tool") return { assistant: "agent", user: "user" }[message.role] || message.role;
    return (message.by === "user" ? "result of the user's call" : "tool result") + (message.error ? ", an error" : "");
  }

  function head(message, options) {
    const node = make("div", "who"), turn = message.turn;
    if (turn && options.link) {
      const link = make("a", "", `${who(message)}, turn ${turn.index}`);
      link.href = options.link(turn.index);
      link.title = "a link to this turn";
      node.append(link);
    } else node.append(make("span", "", who(message)));
    if (!turn) return node;
    const figures = make("span");
    const add = (part) => figures.append(figures.childNodes.length ? ", " : "", part);
    if (turn.partial !== null) add(`partial ${turn.partial.toFixed(2)}`);
    if (turn.gain) add(figure("gain", turn.gain));
    if (turn.advantage !== undefined) add(figure("advantage", turn.advantage));
    if (turn.malformed) add(make("span", "down", `${turn.malformed} malformed`));
    for (const note of turn.notes || []) add(note);
    if (turn.tokens) {
      const mean = (of) => (of.reduce((a, b) => a + b, 0) / of.length).toFixed(3), { sampler, trainer } = turn.tokens;
      figures.title = `${sampler.length} tokens, mean log-prob ${mean(sampler)}` + (trainer ? `, in the trainer ${mean(trainer)}` : "");
      add(`${sampler.length} tokens`);
    }
    node.append(figures);
    return node;
  }

  function bubble(message, text, options) {
    const node = make("div", ["message", message.role, message.error && "error", message.by === "unsent" && "unsent"].filter(Boolean).join(" "));
    node.append(head(message, options));
    if (message.thought) {
      const thought = fold("thought", message.thought);
      thought.classList.add("thought");
      node.append(thought);
    }
    const tokens = message.turn && message.turn.tokens, shade = options.shade;
    const can = tokens && shade && (!SHADES[shade].needs || tokens[SHADES[shade].needs]);
    if (can) node.append(shaded(tokens, shade));
    else if (text && message.role === "tool") node.append(fold(text.length > LONG ? text.slice(0, LONG) + " …" : text, text));
    else if (text) node.append(make("div", "text", text));
    for (const call of message.calls) {
      const line = fold(`${message.role === "user" ? "does" : "calls"} ${call.name}`, JSON.stringify(call.arguments, null, 2));
      const summary = line.firstChild;
      if (call.gain) summary.append(" ", figure("gain", call.gain));
      if (call.advantage !== undefined) summary.append(" ", figure("advantage", call.advantage));
      if (call.wrong) summary.append(" ", make("span", "down", call.wrong));
      node.append(line);
    }
    if (message.turn && message.turn.partial !== null) {
      const bar = make("div", "bar"), fill = make("i");
      fill.style.width = 100 * message.turn.partial + "%";
      bar.append(fill);
      node.append(bar);
    }
    return node;
  }

  function jumper(at, jump) {
    const button = make("button", "jump", `message ${at}`);
    button.type = "button";
    button.addEventListener("click", () => jump(at));
    return button;
  }

  // A line may hold a call with all its arguments: what is beyond three lines shows on a click.
  function line(name, mark, text, at, jump) {
    const node = make("li", name), words = make("span", "what", text);
    words.title = text;
    words.addEventListener("click", () => words.classList.toggle("whole"));
    node.append(mark, words);
    if (at !== null) node.append(jumper(at, jump));
    return node;
  }

  function checks(talk, jump) {
    const list = make("ul", "checks");
    for (const check of talk.checks) {
      const mark = make("span", !check.counts ? "none" : check.met ? "won" : "lost", check.met ? "✓" : "✗");
      if (!check.counts) mark.title = "not part of this task's reward";
      list.append(line(check.counts ? "" : "none", mark, `${check.kind}: ${check.what}`, check.at, jump));
    }
    return list;
  }

  function faults(talk, jump) {
    const list = make("ul", "checks faults");
    for (const fault of talk.faults) {
      list.append(line("fault", make("span", "lost", "!"), `${fault.party}'s fault: ${fault.what}`, fault.at, jump));
    }
    return list;
  }

  function difference(found) {
    const table = make("table", "differs"), top = make("tr");
    top.append(make("th", "", "here"), make("th", "", "in the solution"));
    table.append(top);
    for (const place of found.places) {
      const where = make("tr"), cell = make("td", "place", place.where), values = make("tr");
      cell.colSpan = 2;
      where.append(cell);
      values.append(make("td", "found", place.found === null ? "(nothing)" : place.found), make("td", "wanted", place.wanted === null ? "(nothing)" : place.wanted));
      table.append(where, values);
    }
    return table;
  }

  function facts(pairs) {
    const list = make("dl", "facts");
    for (const [name, value] of pairs) list.append(make("dt", "", name), make("dd", "", value));
    return list;
  }
  Viewer.facts = facts;

  // options: shade (a key of Viewer.shades, or ""), link (turn -> its address)
  Viewer.talk = (talk, texts, options = {}) => {
    const words = (message) => (typeof message.text === "number" ? texts[message.text] : message.text);
    const bubbles = talk.messages.map((message) => bubble(message, words(message), options));
    const messages = make("div", "talk");
    messages.append(...bubbles);
    const jump = (n) => {
      for (const other of messages.querySelectorAll(".at")) other.classList.remove("at");
      bubbles[n].classList.add("at");
      bubbles[n].scrollIntoView({ block: "center" });
    };
    for (const fault of talk.faults) if (fault.at !== null) bubbles[fault.at].classList.add("marked");
    return {
      found: talk, messages, jump, checks: checks(talk, jump), faults: faults(talk, jump), facts: facts(talk.facts),
      database: talk.database ? difference(talk.database) : null,
      turnAt: (turn) => talk.messages.findIndex((m) => m.turn && m.turn.index === turn),
    };
  };
})();
