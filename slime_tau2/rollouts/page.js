// The page of a training's rollouts: lists of steps, groups and samples, and what is chosen beside them. The address names
// it: #step/group/sample/turn. With a server (live) the index is asked for again, and again.
"use strict";
(() => {
  const make = Viewer.make, $ = (id) => document.getElementById(id), EVERY = 3000;
  const live = document.querySelector("header").dataset.live === "1";
  const fixed = (x, digits = 2) => (x === null || x === undefined ? "–" : x.toFixed(digits).replace("-", "−"));
  const signed = (x, digits = 2) => (x === null || x === undefined ? "–" : (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x).toFixed(digits));
  const small = (x) => (x === null || x === undefined ? "–" : x === 0 ? "0" : x >= 1e-3 ? x.toFixed(4) : x.toExponential(0));
  const seconds = (s) => (s >= 90 ? `${Math.round(s / 60)} min` : `${s.toFixed(s < 10 ? 1 : 0)} s`);
  const won = (row) => row.reward > 1 - 1e-6;
  const mark = (row) => (!row.trains ? "none" : won(row) ? "won" : "lost");

  // Data: arrays of the index become objects that know each other
  let index = null, steps = [], groups = [], samples = [], blocks = new Map();
  function named(fields, values) {
    const row = {};
    for (let i = 0; i < fields.length; i++) row[fields[i]] = values[i];
    return row;
  }
  function take(fresh) {
    index = fresh;
    blocks = new Map();
    steps = index.steps.map((step) => ({ ...step, key: step.step, groups: [] }));
    const byStep = new Map(steps.map((step) => [step.step, step]));
    samples = index.samples.map((values) => named(index.sample_fields, values));
    let next = 0;
    groups = index.groups.map((values) => {
      const group = named(index.group_fields, values);
      group.key = `${group.step}/${group.group}`;
      group.samples = samples.slice(next, next + group.count);
      for (const sample of group.samples) {
        sample.group = group;
        sample.name = sample.segment ? `${sample.sample}.${sample.segment}` : `${sample.sample ?? "–"}`; // an episode may be several
        sample.key = `${group.key}/${sample.name}`;
      }
      next += group.count;
      byStep.get(group.step).groups.push(group);
      return group;
    });
    for (const step of steps) {
      const trained = step.groups.filter((g) => g.fate === "trained"), rows = trained.flatMap((g) => g.samples).filter((s) => s.trains);
      step.of = (fate) => step.groups.filter((g) => g.fate === fate).length;
      step.success = Tokens.mean(rows.map((s) => (won(s) ? 1 : 0)));
      step.shaped = Tokens.mean(rows.map((s) => s.training_reward));
      step.apart = Tokens.mean(rows.map((s) => s.apart));
      step.length = Tokens.mean(rows.map((s) => s.response_tokens));
    }
  }

  async function asked(path) {
    const reply = await fetch(path, { cache: "no-store" });
    if (reply.status === 204) return null;
    if (!reply.ok) throw new Error(`the server answers ${reply.status}`);
    const value = await reply.json();
    if (value.error) throw new Error(value.error);
    return value;
  }
  function tokens(step) {
    if (!live) return index.within.includes(step) ? Viewer.block(`r${step}`) : Promise.resolve(null);
    if (!blocks.has(step)) blocks.set(step, asked(`rollout/${step}`));
    return blocks.get(step);
  }

  // Lists
  const outcomes = (group) => {
    const node = make("span", "outcomes");
    for (const sample of group.samples) {
      const dot = make("span", mark(sample), won(sample) ? "●" : sample.trains ? "○" : "×");
      dot.title = sample.trains ? `reward ${sample.reward}, in training ${fixed(sample.training_reward)}` : sample.why_not;
      node.append(dot);
    }
    return node;
  };
  const verdict = (group) => (group.verdict === "" ? "" : group.verdict === "kept" ? "kept" : `dropped: ${group.verdict}`);
  const cut = (cell) => make("span", "cut", cell.getValue());
  const coloured = (cell) => make("span", cell.getValue(), cell.getValue());
  const number = (title, field, digits, more) => ({ title, field, hozAlign: "right", width: 78, formatter: (cell) => fixed(cell.getValue(), digits), ...more });
  const TABS = {
    steps: {
      rows: () => steps,
      keep: (step, f) => f.step === "" || step.step === +f.step,
      open: (step) => go([step.step]),
      columns: [
        { title: "step", field: "step", width: 76, hozAlign: "right" },
        number("success", "success", 3, { width: 98 }), number("training reward", "shaped", 3, { width: 96, headerWordWrap: true, responsive: 2 }),
        { title: "trained, dropped, returned", field: "key", minWidth: 110, headerWordWrap: true, headerSort: false, formatter: (cell) => { const s = cell.getData(); return `${s.of("trained")}, ${s.of("dropped")}, ${s.of("returned")}`; } },
        number("apart", "apart", 4, { width: 84, responsive: 3, formatter: (cell) => small(cell.getValue()) }), number("tokens", "length", 0, { width: 90, responsive: 4 }),
        { title: "took", field: "seconds", width: 80, hozAlign: "right", responsive: 5, formatter: (cell) => seconds(cell.getValue()) },
      ],
    },
    groups: {
      rows: () => groups,
      keep: (group, f) => fits(group, f) && (f.outcome === "" || group.samples.some((s) => outcome(s, f.outcome))),
      open: (group) => go([group.step, group.group]),
      columns: [
        { title: "step", field: "step", width: 76, hozAlign: "right" }, { title: "group", field: "group", width: 86, hozAlign: "right", responsive: 4 },
        { title: "task", field: "task", minWidth: 110, widthGrow: 2, tooltip: (_, cell) => `${cell.getData().domain}/${cell.getValue()}`, formatter: (cell) => brief(cell.getValue()) },
        { title: "why next", field: "served", minWidth: 140, widthGrow: 2, responsive: 3, tooltip: true, formatter: cut },
        { title: "filter", field: "verdict", width: 92, responsive: 5, tooltip: (_, cell) => verdict(cell.getData()) },
        { title: "became", field: "fate", width: 100, responsive: 2, formatter: coloured, tooltip: (_, cell) => cell.getData().why },
        { title: "rewards", field: "count", width: 122, headerSort: false, formatter: (cell) => outcomes(cell.getData()) },
      ],
    },
    samples: {
      rows: () => samples,
      keep: (sample, f) => fits(sample.group, f) && (f.outcome === "" || outcome(sample, f.outcome)),
      open: (sample) => go([sample.group.step, sample.group.group, sample.name]),
      columns: [
        { title: "step", field: "group.step", width: 76, hozAlign: "right" }, { title: "sample", field: "name", sorter: "number", width: 92, hozAlign: "right", responsive: 3 },
        { title: "task", field: "group.task", minWidth: 110, widthGrow: 2, formatter: (cell) => brief(cell.getValue()) },
        { title: "reward", field: "reward", width: 90, hozAlign: "right", formatter: (cell) => make("span", mark(cell.getData()), fixed(cell.getValue(), 1)) },
        number("training", "training_reward", 2, { width: 98, responsive: 4 }), { title: "adv.", field: "advantage", width: 78, hozAlign: "right", responsive: 2, formatter: (cell) => signed(cell.getValue()) },
        number("log-prob", "log_prob", 3, { width: 100, responsive: 6 }), number("apart", "apart", 4, { width: 84, responsive: 7, formatter: (cell) => small(cell.getValue()) }),
        { title: "ended", field: "termination", width: 104, responsive: 5 }, { title: "tokens", field: "response_tokens", width: 90, hozAlign: "right", responsive: 8 },
      ],
    },
  };
  const brief = (task) => (task.length > 34 ? `${task.slice(0, 8)}…${task.slice(-24)}` : task);
  const outcome = (sample, which) => (which === "out" ? !sample.trains : sample.trains && won(sample) === (which === "won"));
  const fits = (group, f) => (f.step === "" || group.step === +f.step) && (f.fate === "" || group.fate === f.fate) &&
    (f.find === "" || `${group.domain}/${group.task} ${group.group}`.toLowerCase().includes(f.find));
  const filters = () => ({ step: $("step").value, fate: $("fate").value, outcome: $("outcome").value, find: $("find").value.trim().toLowerCase() });

  const lists = {};
  let tab = "groups";
  async function list(name) {
    if (!lists[name]) lists[name] = await Viewer.list($(name), { columns: TABS[name].columns, rows: TABS[name].rows(), open: TABS[name].open });
    return lists[name];
  }
  async function showTab(name) {
    tab = name;
    for (const other of Object.keys(TABS)) $(other).hidden = other !== name;
    for (const button of document.querySelectorAll("[data-tab]")) button.setAttribute("aria-pressed", String(button.dataset.tab === name));
    for (const id of ["fate", "outcome", "find"]) $(id).hidden = name === "steps";
    await list(name);
    filter();
  }
  function filter() {
    const shown = lists[tab];
    if (!shown) return;
    const f = filters();
    shown.filter((row) => TABS[tab].keep(row, f));
    $("count").textContent = `${shown.shown().length} of ${TABS[tab].rows().length} ${tab}`;
    const [step, group, sample] = where();
    const key = { steps: step, groups: `${step}/${group}`, samples: `${step}/${group}/${sample}` }[tab];
    if (TABS[tab].rows().some((row) => row.key === key)) shown.pick(key);
  }

  // What is chosen
  const where = () => location.hash.slice(1).split("/").filter(Boolean).map((x, i) => (i === 2 ? x : x === "null" ? null : +x));
  function go(place) {
    const hash = "#" + place.join("/");
    if (location.hash !== hash) location.hash = hash;
    else open();
  }
  // heads: [title, class of its cells]: `n` a number, `long` words that may wrap
  const table = (heads, rows) => {
    const node = make("table", "row"), top = make("tr"), wide = make("div", "wide");
    for (const [title, kind] of heads) top.append(make("th", kind, title));
    node.append(top);
    for (const { cells, open: chosen } of rows) {
      const line = make("tr");
      cells.forEach((cell, i) => { const td = make("td", heads[i][1]); td.append(cell instanceof Node ? cell : String(cell)); line.append(td); });
      if (chosen) {
        line.tabIndex = 0;
        line.addEventListener("click", chosen);
        line.addEventListener("keydown", (event) => { if (event.key === "Enter") chosen(); });
      }
      node.append(line);
    }
    wide.append(node);
    return wide;
  };
  const groupRow = (group) => ({
    cells: [group.group ?? "–", `${group.domain}/${group.task}`, group.served, verdict(group), make("span", group.fate, group.fate), outcomes(group)],
    open: () => go([group.step, group.group]),
  });
  const pairs = (of) => of.filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== "–");

  function showStep(step) {
    const out = [Viewer.facts(pairs([
      ["took", step.seconds ? seconds(step.seconds) : ""], ["written", new Date(step.written * 1000).toLocaleString()],
      ["groups", `${step.of("trained")} trained, ${step.of("dropped")} dropped, ${step.of("returned")} to be served again, ${step.waiting} still out`],
      ["tokens left out", step.left_out ? `${step.left_out} groups did not fit` : ""],
      ["trainer", step.others ? `${step.others} samples with other tokens: of another try` : ""],
    ]))];
    out.push(make("h3", "", "Groups, in the order in which they were served"));
    out.push(table([["group", "n"], ["task", "long"], ["why it came next", "long"], ["filter"], ["became"], ["rewards"]], step.groups.slice(0, 300).map(groupRow)));
    if (step.groups.length > 300) out.push(make("p", "note", `the first 300 of ${step.groups.length}; the list has all`));
    const fold = make("details"), figures = Object.entries(step.figures);
    if (figures.length) {
      fold.append(make("summary", "", `${figures.length} figures that were logged`), Viewer.facts(figures.map(([name, value]) => [name, String(+value.toPrecision(5))])));
      out.push(fold);
    }
    const options = Object.entries(index.options);
    if (options.length) {
      const more = make("details");
      more.append(make("summary", "", "options"), Viewer.facts(options.map(([name, value]) => [`tau2_${name}`, String(value)])));
      out.push(more);
    }
    return out;
  }

  const sampleRow = (sample) => ({
    cells: [sample.name, make("span", mark(sample), fixed(sample.reward, 1)), fixed(sample.training_reward), signed(sample.advantage, 3), fixed(sample.partial), sample.trains ? sample.termination : `out: ${sample.why_not}`,
      sample.turns, sample.trained_tokens, fixed(sample.log_prob, 3), fixed(sample.trainer, 3), sample.tokens ? "yes" : ""],
    open: () => go([sample.group.step, sample.group.group, sample.name]),
  });
  const SAMPLE_HEADS = [["sample", "n"], ["reward", "n"], ["training", "n"], ["advantage", "n"], ["partial", "n"], ["ended"], ["turns", "n"], ["sampled", "n"], ["log-prob", "n"], ["trainer's", "n"], ["tokens"]];

  function showGroup(group) {
    const out = [Viewer.facts(pairs([
      ["task", `${group.domain}/${group.task}`], ["why it came next", group.served], ["the filter", verdict(group) || "was not asked"],
      ["became", group.fate + (group.why ? `: ${group.why}` : "")],
    ]))];
    if (group.samples.length) out.push(table(SAMPLE_HEADS, group.samples.map(sampleRow)));
    else out.push(make("p", "note", "It was not finished: nothing is known of its samples."));
    return out;
  }

  let shade = "advantage";
  async function showSample(sample, turn) {
    const group = sample.group, others = make("div", "chips");
    for (const other of group.samples) {
      const chip = make("button", "", `${won(other) ? "●" : other.trains ? "○" : "×"} ${other.name}`);
      chip.type = "button";
      chip.classList.add(mark(other));
      chip.setAttribute("aria-pressed", String(other === sample));
      chip.addEventListener("click", () => go([group.step, group.group, other.name]));
      others.append(chip);
    }
    const parts = Object.entries(sample.components).map(([name, value]) => `${name} ${fixed(value)}`).join(", ");
    const out = [others, Viewer.facts(pairs([
      ["reward", `${fixed(sample.reward, 2)}${sample.training_reward === null ? "" : `; in training ${fixed(sample.training_reward, 3)}`}`],
      ["advantage", signed(sample.advantage, 4)], ["partial", fixed(sample.partial) + (parts ? ` (${parts})` : "")],
      ["trains", sample.trains ? "" : `no: ${sample.why_not}`], ["ended", sample.termination + (sample.detail ? `: ${sample.detail}` : "")],
      ["turns", `${sample.turns}, ${sample.calls} calls, ${sample.tool_errors} errors, ${sample.malformed} that could not be read`],
      ["tokens", `${sample.response_tokens} behind the prompt, ${sample.trained_tokens} sampled`],
      ["mean log-prob", `sampler ${fixed(sample.log_prob, 4)}` + (sample.trainer === null ? "" : `, trainer ${fixed(sample.trainer, 4)}, apart ${small(sample.apart)}`)],
      ["waited", `${seconds(sample.policy_s)} for the policy, ${seconds(sample.user_s)} for the user`],
      ["weights", sample.weights.join(", ")],
    ]))];
    if (!sample.tokens) return [...out, make("p", "note", "Its tokens are not in the dump: tau2_dump says of how many groups a rollout they are.")];
    const block = await tokens(group.step);
    const read = block && Tokens.read(block, `${sample.sample}.${sample.segment}`);
    if (!read) return [...out, make("p", "note", "Its tokens did not fit into this file; --live shows them.")];
    const tools = make("div", "tools"), label = make("label", "", "shade tokens by "), choice = make("select"), said = make("div");
    choice.append(new Option("nothing", ""));
    for (const [key, kind] of Object.entries(Viewer.shades)) {
      const needs = { trainer: "trainer", advantage: "advantage" }[kind.needs];
      if (!needs || read.arrays[needs]) choice.append(new Option(kind.name, key));
    }
    choice.value = [...choice.options].some((o) => o.value === shade) ? shade : "sampler";
    const draw = () => {
      const talk = Viewer.talk(read.talk, [], { shade: choice.value, link: (n) => `#${group.step}/${group.group}/${sample.name}/${n}` });
      said.replaceChildren(talk.messages);
      return talk;
    };
    choice.addEventListener("change", () => { shade = choice.value; draw(); });
    label.append(choice);
    tools.append(label);
    if (!read.arrays.trainer) tools.append(make("span", "note", "no log-probs of the trainer (docs/hooks.md says when it has them)"));
    const prompt = make("details");
    prompt.append(make("summary", "", "the prompt: policy, tools, first messages"), make("pre", "", read.prompt));
    const talk = draw();
    if (turn !== undefined) requestAnimationFrame(() => { const at = talk.turnAt(turn); if (at >= 0) talk.jump(at); });
    return [...out, tools, prompt, said];
  }

  let opened = 0;
  async function open() {
    const [step, group, sample, turn] = where(), mine = ++opened, crumbs = [];
    const theStep = steps.find((s) => s.step === step), theGroup = theStep && group !== undefined && theStep.groups.find((g) => g.group === group);
    const theSample = theGroup && sample !== undefined && theGroup.samples.find((s) => s.name === sample);
    if (!theStep) return;
    const crumb = (text, place) => { const link = make("a", "", text); link.href = "#" + place.join("/"); crumbs.push(link, make("span", "none", "›")); };
    crumb(`step ${step}`, [step]);
    if (theGroup) crumb(`group ${group} ${brief(theGroup.task)}`, [step, group]);
    if (theSample) crumb(`sample ${sample}`, [step, group, sample]);
    crumbs.pop();
    let parts;
    try {
      parts = theSample ? await showSample(theSample, turn) : theGroup ? showGroup(theGroup) : showStep(theStep);
    } catch (error) { parts = [make("p", "lost", error.message)]; }
    if (mine !== opened) return; // another was chosen meanwhile
    $("crumbs").replaceChildren(...crumbs);
    $("shown").replaceChildren(...parts);
    filter();
  }

  // Curves
  const CURVES = [
    ["success and training reward", { "success": (s) => s.success, "training reward": (s) => s.shaped }],
    ["share of groups", { "trained": (s) => s.of("trained") / Math.max(1, s.groups.length), "dropped": (s) => s.of("dropped") / Math.max(1, s.groups.length) }],
    ["|trainer − sampler| of log-probs", { "mean over sampled tokens": (s) => s.apart }],
    ["tokens of an episode", { "behind the prompt": (s) => s.length }],
  ];
  let drawn = [];
  function curves() {
    if (!$("curves").open) return;
    for (const chart of drawn) chart.destroy();
    const host = document.querySelector("#curves .charts");
    host.replaceChildren();
    drawn = [];
    for (const [title, lines] of CURVES) {
      const found = Object.entries(lines).map(([name, of], colour) => ({ name, colour, points: steps.map((s) => [s.step, of(s)]).filter((p) => p[1] !== null), band: null }));
      if (!found.some((curve) => curve.points.length)) continue;
      // numbers far below 1 get a unit, for the axis writes a few digits
      const most = Math.max(...found.flatMap((curve) => curve.points.map((p) => p[1]))), power = most > 0 && most < 0.01 ? Math.ceil(-Math.log10(most)) : 0;
      for (const curve of found) for (const point of curve.points) point[1] *= 10 ** power;
      const place = make("div");
      host.append(place);
      drawn.push(Viewer.chart(place, { title: power ? `${title}, in 1e-${power}` : title, x: "step", y: "", range: null, height: 190, curves: found.filter((c) => c.points.length) }));
    }
  }

  // Everything, again whenever there is more
  function tell(error) {
    const said = $("told"), last = steps[steps.length - 1];
    said.classList.toggle("bad", Boolean(error));
    if (error) { said.textContent = error; return; }
    const words = [`${index.directory}: ${steps.length} steps, ${groups.length} groups, ${samples.length} samples`];
    if (live) words.push(last ? `the last was written at ${new Date(last.written * 1000).toLocaleTimeString()}` : "waiting for the first");
    if (index.stale.length) words.push(`left out, of before the run was resumed: ${index.stale.join(", ")}`);
    if (index.within && index.within.length < steps.length) words.push(`tokens of the last ${index.within.length} steps; --live has those of all`);
    said.textContent = words.join("; ");
  }
  const chosen = () => { const [step, group, sample] = where(); return samples.find((s) => s.key === `${step}/${group}/${sample}`); };
  async function renew(fresh) {
    const before = chosen();
    take(fresh);
    tell();
    const only = $("step").value;
    $("step").replaceChildren(new Option("all steps", ""), ...steps.map((s) => new Option(`step ${s.step}`, s.step)));
    $("step").value = only;
    for (const name of Object.keys(lists)) await lists[name].table.replaceData(TABS[name].rows());
    filter();
    curves();
    if (before && before.trainer !== chosen()?.trainer) await open(); // the trainer has spoken of what is looked at
  }
  async function watch() {
    for (;;) {
      try {
        const fresh = await asked(`index?have=${index ? index.version : ""}`);
        if (fresh) { const first = !index; await renew(fresh); if (first) await showTab(tab); if (first || (where().length && !$("crumbs").childNodes.length)) await open(); }
        else if (index) tell();
      } catch (error) { tell(`cannot be read: ${error.message}`); }
      window.pageReady = performance.now(); // tests and benches wait for it
      await new Promise((done) => setTimeout(done, EVERY));
    }
  }

  for (const button of document.querySelectorAll("[data-tab]")) button.addEventListener("click", () => showTab(button.dataset.tab));
  for (const id of ["step", "fate", "outcome"]) $(id).addEventListener("change", filter);
  $("find").addEventListener("input", filter);
  $("curves").addEventListener("toggle", curves);
  window.addEventListener("hashchange", open);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); $("find").focus(); }
  });
  (async () => {
    if (live) return watch();
    await renew(await Viewer.block("index"));
    await showTab(tab);
    await open();
    window.pageReady = performance.now(); // tests and benches wait for it
  })();
})();
