// The report's choice of runs and tasks, and the one table with the runs as columns. Scores come ready with their
// intervals; everything else is added up from the lines of the conversations that are chosen.
"use strict";
const Report = { runs: new Set(), groups: new Set(), metrics: new Set() };

Report.outcome = (talk) => (talk.reward === null ? "none" : talk.reward > 1 - 1e-6 ? "won" : "lost");
Report.chosen = (talk) => Report.runs.has(talk.run) && Report.groups.has(Report.index.tasks[talk.task].group);

(() => {
  const make = Viewer.make, $ = (id) => document.getElementById(id);
  const sum = (talks, of) => talks.reduce((total, talk) => total + of(talk), 0);
  const count = (n) => (n ? n.toLocaleString("en") : "–");

  function chip(host, label, colour, on, changed) {
    const node = make("label", "chip"), box = make("input");
    box.type = "checkbox";
    box.checked = on;
    node.append(box);
    if (colour !== null) {
      const dot = make("span", "dot");
      dot.style.setProperty("--of", Viewer.colour(colour));
      node.append(dot);
    }
    node.append(make("span", "", label));
    box.addEventListener("change", () => changed(box.checked));
    // a double click chooses it alone
    node.addEventListener("dblclick", () => {
      for (const other of host.querySelectorAll("input")) if (other.checked !== (other === box)) other.click();
    });
    host.append(node);
  }

  function chips(host, label, set, items, colours, changed) {
    host.replaceChildren(...(label ? [make("span", "label", label)] : []));
    items.forEach(([value, name], n) => chip(host, name, colours ? n : null, set.has(value), (on) => {
      if (on) set.add(value); else set.delete(value);
      changed();
    }));
  }

  Report.choose = (changed) => {
    const { runs, groups, metrics } = Report.index;
    runs.forEach((_, n) => Report.runs.add(n));
    groups.forEach((group) => Report.groups.add(group));
    const last = metrics.filter((m) => m.startsWith("pass^")).pop();
    for (const metric of [metrics[0], last]) if (metric) Report.metrics.add(metric);
    const both = () => { told(); changed(); };
    const told = () => { $("choose").firstChild.textContent = `${Report.runs.size} of ${runs.length} runs, ${Report.groups.size} of ${groups.length} kinds of task`; };
    chips($("runs"), "runs", Report.runs, runs.map((run, n) => [n, run.name]), true, both);
    chips($("groups"), "tasks", Report.groups, groups.map((group) => [group, group]), false, both);
    chips($("metrics"), "", Report.metrics, metrics.map((metric) => [metric, metric]), false, changed);
    if (matchMedia("(max-width: 62rem)").matches && runs.length > 4) $("choose").open = false;
    told();
  };

  function estimate(cell, best) {
    const node = make("td", best ? "best" : "");
    if (!cell || cell[0] === null) { node.textContent = "–"; return node; }
    const [value, low, high, note] = cell, bar = make("span", "interval"), range = make("i"), at = make("u");
    node.append(make("b", "", value.toFixed(1) + (note ? "*" : "")), make("small", "", `${low.toFixed(1)}–${high.toFixed(1)}`));
    range.style.left = low + "%";
    range.style.width = high - low + "%";
    at.style.left = `calc(${value}% - 1px)`;
    bar.append(range, at);
    node.append(bar);
    node.title = note;
    return node;
  }

  function rows() {
    const { index } = Report, runs = [...Report.runs].sort((a, b) => a - b), out = [];
    const of = new Map(runs.map((run) => [run, []]));
    for (const talk of Report.talks) if (Report.chosen(talk)) of.get(talk.run).push(talk);
    const section = (label) => out.push({ section: label });
    const row = (label, what, cell, pick) => out.push({ label, what, cells: runs.map((run) => cell(of.get(run), run)), pick });

    const all = Report.groups.size === index.groups.length;
    for (const metric of index.metrics.filter((m) => Report.metrics.has(m))) {
      section(metric);
      for (const name of index.rows) {
        if (index.overall.includes(name) ? !all : index.groups.includes(name) && !Report.groups.has(name)) continue;
        const cells = runs.map((run) => (index.runs[run].scores[name] || {})[metric]);
        if (!cells.some(Boolean)) continue;
        const values = cells.filter((cell) => cell && cell[0] !== null).map((cell) => cell[0]), best = Math.max(...values);
        out.push({ label: name, nodes: cells.map((cell) => estimate(cell, best > Math.min(...values) && cell && cell[0] === best)) });
      }
    }

    section("what the episodes did");
    const scored = (talks) => talks.filter((talk) => talk.reward !== null);
    const mean = (key) => (talks) => { const part = scored(talks); return part.length ? (sum(part, (t) => t[key]) / part.length).toFixed(2) : "–"; };
    row("attempts", "", (talks) => count(talks.length));
    row("ended by the infrastructure", "", (talks) => count(talks.length - scored(talks).length), { outcome: "none" });
    row("agent turns", "mean of an episode", mean("turns"));
    row("tool calls", "mean of an episode", mean("calls"));
    row("tool errors", "mean of an episode", mean("tool_errors"));
    row("malformed calls", "mean of an episode", mean("malformed"));
    row("response tokens", "mean of an episode", mean("tokens"));
    row("seconds for the user's reply", "mean of a turn", (talks) => { const part = scored(talks), turns = sum(part, (t) => t.turns); return turns ? (sum(part, (t) => t.user_s) / turns).toFixed(2) : "–"; });
    row("user hung up too early", "share of episodes", mean("early"));
    const known = (talks) => talks.filter((talk) => talk.sent !== null);
    if (Report.talks.some((talk) => talk.sent !== null)) {
      section("tokens and cost");
      row("sent to the policy", "mean of an attempt", (talks) => { const part = known(talks); return part.length ? count(Math.round(sum(part, (t) => t.sent) / part.length)) : "–"; });
      row("sampled", "mean of an attempt", (talks) => { const part = known(talks); return part.length ? count(Math.round(sum(part, (t) => t.sampled) / part.length)) : "–"; });
      if (index.priced) {
        const cost = (talks) => sum(talks, (t) => t.cost || 0), won = (talks) => talks.filter((t) => Report.outcome(t) === "won").length;
        const paid = (talks) => talks.some((t) => t.cost !== null);
        row("cost", "of all attempts, user and judge too", (talks) => (paid(talks) ? cost(talks).toFixed(2) : "–"));
        row("cost of a success", "", (talks) => (paid(talks) && won(talks) ? (cost(talks) / won(talks)).toFixed(4) : "–"));
      }
    }
    const kinds = (label, names, has, what, field) => {
      const found = names.filter((name) => runs.some((run) => of.get(run).some((talk) => has(talk, name))));
      if (!found.length) return;
      section(label);
      for (const name of found) row(name, what(name), (talks) => {
        const n = talks.filter((talk) => has(talk, name)).length;
        return n ? [count(n), `${((100 * n) / talks.length).toFixed(n < talks.length / 10 ? 1 : 0)} %`] : "–";
      }, { [field]: name });
    };
    const endings = [...new Set(Report.talks.map((talk) => talk.ended))];
    kinds("how they ended", endings, (talk, name) => talk.ended === name, () => "", "ended");
    kinds("what went wrong, from the checks alone", Object.keys(index.failures), (talk, name) => talk.failure === name, (name) => index.failures[name], "failure");
    const faulty = (talk, name) => (name === index.untold ? Report.outcome(talk) === "lost" && !talk.faults.length : talk.faults.includes(name));
    kinds("who was at fault, where a check proves it", [...Object.keys(index.faults), index.untold], faulty, (name) => index.faults[name] || "", "fault");
    Report.faulty = faulty;
    return { runs, out };
  }

  Report.summary = (pick) => {
    const { runs, out } = rows(), head = make("tr"), body = make("tbody"), top = make("thead");
    head.append(make("th"));
    for (const run of runs) {
      const cell = make("th", "", Report.index.runs[run].name);
      cell.style.setProperty("--of", Viewer.colour(run));
      head.append(cell);
    }
    top.append(head);
    for (const line of out) {
      const node = make("tr", line.section ? "section" : ""), label = make("th", "", line.section || line.label);
      if (line.what) label.append(make("span", "what", line.what));
      node.append(label);
      runs.forEach((run, n) => {
        const cell = line.section ? make("td") : line.nodes ? line.nodes[n] : make("td");
        cell.style.setProperty("--of", Viewer.colour(run));
        if (line.cells) {
          const [value, below] = [line.cells[n]].flat();
          if (line.pick && value !== "–") {
            const button = make("button", "", value);
            button.type = "button";
            button.addEventListener("click", () => pick(run, line.pick));
            cell.append(button);
          } else cell.append(value);
          if (below) cell.append(make("small", "", below));
        }
        node.append(cell);
      });
      body.append(node);
    }
    $("summary").replaceChildren(top, body);
  };
})();
