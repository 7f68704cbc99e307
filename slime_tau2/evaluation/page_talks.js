// The report's list of conversations, and one or two of them open: messages, and beside them the task, the checks, the
// difference of the databases, tokens and cost. The address says what is open: #run/task/attempt/turn, a second behind &.
"use strict";
(() => {
  const make = Viewer.make, $ = (id) => document.getElementById(id);
  const MARKS = { won: "✓", lost: "✗", none: "–" };
  const panes = [];
  let list = null, matrix = null, active = 0;

  const several = () => new Set(Report.index.tasks.map((task) => task.domain)).size > 1;
  const named = (task) => (several() ? `${task.domain}:${task.id}` : task.id);
  const address = (talk, turn) => [Report.index.runs[talk.run].name, named(Report.index.tasks[talk.task]), talk.attempt, ...(turn === undefined ? [] : [turn])].map(encodeURIComponent).join("/");

  // filters

  const FILTERS = ["run", "group", "outcome", "failure", "fault", "ended"];
  Report.fits = (talk) => {
    const { index } = Report, task = index.tasks[talk.task], find = $("find").value.trim().toLowerCase();
    const [run, group, outcome, failure, fault, ended] = FILTERS.map((id) => $(id).value);
    return Report.chosen(talk) && (!run || talk.run === +run) && (!group || task.group === group) && (!outcome || Report.outcome(talk) === outcome) && (!failure || talk.failure === failure)
      && (!fault || Report.faulty(talk, fault)) && (!ended || talk.ended === ended)
      && (!find || named(task).toLowerCase().includes(find) || task.request.toLowerCase().includes(find));
  };

  Report.filter = () => {
    list.filter((row) => Report.fits(Report.talks[row.key]));
    $("count").textContent = `${list.shown().length} of ${Report.talks.length}`;
  };

  Report.pick = (run, filters) => {
    for (const [id, value] of Object.entries({ ...Object.fromEntries(FILTERS.map((id) => [id, ""])), ...filters, run, find: "" })) $(id).value = value;
    Report.filter();
    $("conversations").scrollIntoView();
  };

  function prepare() {
    const { index, talks } = Report;
    const fill = (id, names, label) => { for (const name of names) $(id).append(new Option(label ? label(name) : name, name)); };
    fill("run", index.runs.keys(), (run) => index.runs[run].name);
    fill("group", index.groups);
    $("group").hidden = index.groups.length < 2;
    fill("failure", Object.keys(index.failures).filter((kind) => talks.some((t) => t.failure === kind)));
    fill("fault", [...Object.keys(index.faults).filter((kind) => talks.some((t) => t.faults.includes(kind))), index.untold], (kind) => (index.faults[kind] || kind).slice(0, 60));
    fill("ended", [...new Set(talks.map((t) => t.ended))].sort());
    for (const [key, shade] of Object.entries(Viewer.shades)) $("shade").append(new Option(`tokens by ${shade.name}`, key));
    for (const id of FILTERS) $(id).addEventListener("change", Report.filter);
    $("find").addEventListener("input", Report.filter);
    $("shade").addEventListener("change", () => panes.forEach((pane) => pane.draw()));
    $("all").addEventListener("click", () => {
      for (const id of [...FILTERS, "find"]) $(id).value = "";
      for (const box of document.querySelectorAll("#runs input, #groups input")) if (!box.checked) box.click();
      Report.filter();
    });
  }

  // the list

  function dotted(run) {
    const node = make("span", "of"), dot = make("span", "dot");
    dot.style.setProperty("--of", Viewer.colour(run));
    node.append(dot, make("span", "cut", Report.index.runs[run].name));
    return node;
  }

  const columns = () => {
    const { index } = Report, task = (row) => index.tasks[Report.talks[row.getData().key].task];
    const number = { hozAlign: "right", headerHozAlign: "right", sorter: "number" };
    return [
      { title: "", field: "outcome", width: 34, hozAlign: "center", headerSort: true, responsive: 0, formatter: (cell) => make("span", cell.getValue(), MARKS[cell.getValue()]) },
      { title: "task", field: "task", minWidth: 230, widthGrow: 4, responsive: 0, formatter: (cell) => {
        const of = task(cell), row = cell.getData(), node = make("div", "task"), run = dotted(row.run);
        const tail = make("b"); // in a narrow list, which has no columns of them, run and attempt stand here
        tail.append(make("span", "cut", of.tail), make("i", "", `attempt ${row.attempt}`));
        run.append(make("span", "cut", of.request));
        node.append(tail, make("span", "request", of.request), run);
        node.title = `${of.id}\n${of.request}`;
        return node;
      } },
      { title: "run", field: "run", minWidth: 140, widthGrow: 1, responsive: 2, formatter: (cell) => dotted(cell.getValue()) },
      { title: "attempt", field: "attempt", width: 106, responsive: 3, ...number },
      { title: "tasks", field: "group", width: 100, responsive: 5 },
      { title: "partial", field: "partial", width: 88, responsive: 1, ...number, formatter: (cell) => (cell.getValue() === null ? "–" : cell.getValue().toFixed(2)) },
      { title: "turns", field: "turns", width: 82, responsive: 6, ...number },
      { title: "sampled", field: "tokens", width: 108, responsive: 7, ...number },
      { title: "what went wrong", field: "failure", minWidth: 200, widthGrow: 1, responsive: 4, formatter: (cell) => make("span", "cut", cell.getValue()) },
    ];
  };

  async function makeList() {
    const rows = Report.talks.map((talk, key) => ({ key, outcome: Report.outcome(talk), task: talk.task, run: talk.run, attempt: talk.attempt,
      group: Report.index.tasks[talk.task].group, partial: talk.partial, turns: talk.turns, tokens: talk.sampled === null ? talk.tokens || null : talk.sampled, failure: talk.failure }));
    const shown = Report.index.groups.length > 1 ? columns() : columns().filter((column) => column.field !== "group");
    list = await Viewer.list($("list"), { columns: shown, rows, rowHeight: 42, open: (row) => Report.show(row.key) });
    Report.list = list;
  }

  // the same task across runs and attempts

  function mark(n, open, here) {
    const talk = Report.talks[n], kind = Report.outcome(talk), button = make("button", `mark ${kind}${here ? " here" : ""}`, MARKS[kind]);
    button.type = "button";
    button.title = `${Report.index.runs[talk.run].name}, attempt ${talk.attempt}: ${kind === "none" ? "not scored" : "reward " + talk.reward}`;
    button.addEventListener("click", (event) => { event.stopPropagation(); open(n); });
    return button;
  }

  const ofTask = (task) => Report.talks.map((_, n) => n).filter((n) => Report.talks[n].task === task && Report.runs.has(Report.talks[n].run));

  function attempts(task, open, here) {
    const table = make("table", "attempts"), by = new Map();
    for (const n of ofTask(task)) by.set(Report.talks[n].run, [...(by.get(Report.talks[n].run) || []), n]);
    for (const [run, those] of by) {
      const line = make("tr"), cell = make("td");
      cell.append(...those.map((n) => mark(n, open, n === here)));
      line.append(make("td", "", Report.index.runs[run].name), cell);
      table.append(line);
    }
    return table;
  }

  Report.across = async () => {
    const { index } = Report, runs = [...Report.runs].sort((a, b) => a - b), by = index.tasks.map(() => new Map());
    Report.talks.forEach((talk, n) => { const of = by[talk.task]; of.set(talk.run, [...(of.get(talk.run) || []), n]); });
    const rows = index.tasks.map((task, key) => ({ key, task: task.tail, ...Object.fromEntries(runs.map((run) => [`r${run}`, (by[key].get(run) || []).filter((n) => Report.outcome(Report.talks[n]) === "won").length])) }))
      .filter((row) => Report.groups.has(index.tasks[row.key].group));
    if (matrix) (await matrix).table.destroy();
    matrix = Viewer.list($("across"), {
      rows, rowHeight: 42, keep: true, open: () => {},
      columns: [{ title: "task", field: "task", frozen: true, width: 190, formatter: (cell) => {
        const node = make("div", "task");
        node.append(make("b", "", cell.getValue()), make("span", "request", index.tasks[cell.getData().key].request));
        node.title = index.tasks[cell.getData().key].id;
        return node;
      } }, ...runs.map((run) => ({ title: index.runs[run].name, titleFormatter: () => dotted(run), headerWordWrap: true, field: `r${run}`, sorter: "number", minWidth: 96, formatter: (cell) => {
        const node = make("div");
        node.append(...(by[cell.getData().key].get(run) || []).map((n) => mark(n, (m) => Report.show(m))));
        return node;
      } }))],
    });
    await matrix;
  };

  // panes

  class Pane {
    constructor(n) {
      this.node = make("article", "pane");
      this.node.addEventListener("pointerdown", () => activate(panes.indexOf(this)));
      this.n = n;
      this.turn = undefined; // the agent's turn that the reader is at
    }

    async draw() {
      const n = this.n, talk = Report.talks[n], task = Report.index.tasks[talk.task];
      const [block, texts] = await Promise.all([Viewer.block(`talks ${talk.block}`), Viewer.block(`tasks of ${task.domain}`)]);
      if (this.n !== n) return;
      const link = (at) => "#" + address(talk, at), shade = $("shade").value;
      const view = Viewer.talk(block.talks[talk.place], block.texts, { shade, link });
      this.view = view;
      this.node.replaceChildren(this.head(talk, task), this.body(view, talk, task, texts));
      const at = this.turn === undefined ? -1 : view.turnAt(this.turn);
      if (at >= 0) view.jump(at);
      else this.turn = undefined;
    }

    // The buttons say how many conversations are open.
    drawHead() {
      const talk = Report.talks[this.n], head = this.node.querySelector("header");
      if (head) head.replaceWith(this.head(talk, Report.index.tasks[talk.task]));
    }

    head(talk, task) {
      const head = make("header"), title = make("div", "title"), kind = Report.outcome(talk);
      const button = (text, hint, act) => {
        const node = make("button", "", text);
        node.type = "button";
        node.title = hint;
        node.addEventListener("click", act);
        return node;
      };
      title.append(make("b", kind, `${MARKS[kind]} ${task.tail}, attempt ${talk.attempt}`), make("small", "", `${Report.index.runs[talk.run].name} · ${task.domain} · ${kind === "none" ? "not scored" : "reward " + talk.reward}`));
      title.title = task.id;
      head.append(title);
      if (panes.length < 2) head.append(button("compare", "the same task's next attempt beside it (c)", () => Report.beside()));
      head.append(button(panes.length < 2 ? "close" : "×", "close (Esc)", () => close(panes.indexOf(this))));
      return head;
    }

    body(view, talk, task, texts) {
      const body = make("div", "body"), side = make("details", "side"), of = texts.tasks[task.id];
      side.open = this.node.clientWidth > 830;
      side.append(make("summary", "", "task, checks, databases, tokens"));
      const part = (title, ...nodes) => side.append(make("h3", "", title), ...nodes);
      if (view.checks.childNodes.length) {
        part("Checks", view.checks);
        if (view.checks.querySelector("li.none")) side.append(make("p", "note", "grey: not part of this task's reward"));
      }
      if (view.database) {
        const told = view.found.database, more = told.total - told.places.length;
        part("Databases, where they differ from the solution's", view.database);
        if (more) side.append(make("p", "note", `and ${more} more places`));
        if (!told.counts) side.append(make("p", "note", "the reward does not ask for them"));
      }
      if (view.faults.childNodes.length) part("Whose fault", view.faults);
      part("This task across runs", attempts(talk.task, (n) => { activate(panes.indexOf(this)); Report.show(n); }, this.n));
      part("Figures", view.facts);
      const said = ([name, text]) => { const node = make("div", "said"); node.append(make("b", "", name), text); return node; };
      if (of) {
        part("What the user is told", ...of.user.map(said));
        if (of.purpose.length) part("About the task", ...of.purpose.map(said));
        const solution = make("details");
        solution.append(make("summary", "", `the solution: ${of.solution.length} calls`), make("pre", "", of.solution.join("\n") || "nothing is to be done"));
        part("Solution and policy", solution);
      } else part("Task", make("p", "note", "It is not on the machine that wrote this page, or not as it was scored."));
      if (texts.policy) {
        const policy = make("details");
        policy.append(make("summary", "", "the agent's policy"), make("pre", "policy", texts.policy));
        side.append(policy);
      }
      side.append(make("p", "note", task.id));
      body.append(side, view.messages);
      return body;
    }

    step(by) {
      const turns = this.view.found.messages.filter((message) => message.turn).map((message) => message.turn.index);
      const at = this.turn === undefined ? (by > 0 ? -1 : turns.length) : turns.indexOf(this.turn);
      this.turn = turns[Math.max(0, Math.min(turns.length - 1, at + by))];
      if (this.turn === undefined) return;
      this.view.jump(this.view.turnAt(this.turn));
      remember();
    }
  }

  function activate(n) {
    active = Math.max(0, Math.min(panes.length - 1, n));
    panes.forEach((pane, at) => pane.node.classList.toggle("active", panes.length > 1 && at === active));
  }

  function layout() {
    $("viewer").className = ["", "one", "two"][panes.length];
    list.redraw();
  }

  function remember(push = false) {
    const hash = panes.map((pane) => address(Report.talks[pane.n], pane.turn)).join("&");
    const go = push ? history.pushState : history.replaceState;
    go.call(history, null, "", hash ? "#" + hash : location.pathname + location.search);
  }

  function close(at) {
    const [gone] = panes.splice(at, 1);
    gone.node.remove();
    activate(0);
    layout();
    panes.forEach((pane) => pane.drawHead());
    if (panes.length) list.pick(panes[active].n);
    remember();
  }

  // Open a conversation in the active pane, or in a new one.
  Report.show = async (n, { turn, beside = false, push = true } = {}) => {
    let pane = panes[active];
    if (beside || !pane) {
      pane = new Pane(n);
      panes.push(pane);
      $("viewer").append(pane.node);
      activate(panes.length - 1);
      layout();
    }
    pane.n = n;
    pane.turn = turn;
    list.pick(n);
    await pane.draw();
    if (push) remember(true);
    panes.forEach((other) => other !== pane && other.drawHead());
  };

  Report.beside = async () => {
    if (panes.length !== 1) return;
    const those = ofTask(Report.talks[panes[0].n].task), next = those[(those.indexOf(panes[0].n) + 1) % those.length];
    await Report.show(next, { beside: true });
  };

  // Open just what the address names; true where it names something.
  const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } }; // an address that was cut
  Report.follow = async () => {
    const { index } = Report, wanted = [];
    for (const part of location.hash.slice(1).split("&")) {
      const [run, task, attempt, turn] = part.split("/").map(decoded);
      const n = Report.talks.findIndex((talk) => index.runs[talk.run].name === run && talk.attempt === +attempt
        && [index.tasks[talk.task].id, `${index.tasks[talk.task].domain}:${index.tasks[talk.task].id}`].includes(task));
      if (n >= 0) wanted.push([n, turn === undefined ? undefined : +turn]);
    }
    while (panes.length) panes.pop().node.remove();
    if (!wanted.length) { layout(); return false; }
    for (const [n, turn] of wanted.slice(0, 2)) await Report.show(n, { turn, beside: panes.length > 0, push: false });
    return true;
  };

  const KEYS = {
    j: () => list.step(1), k: () => list.step(-1), n: () => panes[active] && panes[active].step(1), p: () => panes[active] && panes[active].step(-1),
    "]": () => along(1), "[": () => along(-1), c: () => Report.beside(), Escape: () => panes.length && close(active), "/": () => $("find").focus(),
  };
  function along(by) {
    if (!panes.length) return;
    const those = ofTask(Report.talks[panes[active].n].task);
    Report.show(those[(those.indexOf(panes[active].n) + by + those.length) % those.length]);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox") {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    event.preventDefault();
    KEYS[event.key]();
  });

  Report.talksReady = async () => { prepare(); await makeList(); Report.filter(); };
})();
