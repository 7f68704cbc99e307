// The report: reads its index, draws what is chosen, follows the address. `Report.ready` says that it can be used.
"use strict";
(async () => {
  const index = (Report.index = await Viewer.block("index")), columns = Object.entries(index.talks);
  const count = columns.length ? columns[0][1].length : 0;
  Report.talks = Array.from({ length: count }, (_, n) => Object.fromEntries(columns.map(([name, values]) => [name, values[n]])));
  delete index.talks;
  const charts = [], $ = (id) => document.getElementById(id);
  const names = () => new Set([...Report.runs].map((run) => index.runs[run].name));
  let across = null;
  const draw = () => {
    Report.summary(Report.pick);
    charts.forEach((chart) => chart.show(names(), Report.runs.size <= 3));
    if (across) Report.across();
    if (Report.list) Report.filter();
  };
  Report.choose(draw);
  draw();
  $("tasks").addEventListener("toggle", () => { if ($("tasks").open) { across = true; Report.across(); } });
  await Report.talksReady();
  Report.ready = performance.now();
  const follow = async () => { if (await Report.follow()) $("conversations").scrollIntoView(); };
  await follow();
  window.addEventListener("popstate", follow);
  const add = (host, chart) => { const node = document.createElement("div"); host.append(node); return Viewer.chart(node, chart); };
  for (const chart of index.curves) charts.push(add($("curves"), chart));
  charts.forEach((chart) => chart.show(names(), Report.runs.size <= 3));
  if (index.training.length) {
    $("training").hidden = false;
    for (const chart of index.training) add($("training").querySelector(".charts"), chart);
  }
})();
