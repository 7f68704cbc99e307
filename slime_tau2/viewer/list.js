// A long list, by Tabulator, which draws only the rows that can be seen. `Viewer.list(host, options)` returns
// {filter(keep), pick(key), step(by), shown(), redraw()}.
//
// options: {columns: Tabulator's, rows: [{key, …}], open(row): called when one is chosen, empty: words for no row,
//           height: CSS height, rowHeight: pixels, keep: whether columns are kept where they do not fit}
"use strict";
Viewer.list = (host, options) => new Promise((ready) => {
  const make = Viewer.make;
  let picked = null;
  const mark = (row) => row.getElement().classList.toggle("picked", row.getData().key === picked);
  host.tabIndex = 0;
  const inside = make("div"); // Tabulator sets the height of the element that it is given
  host.replaceChildren(inside);
  const table = new Tabulator(inside, {
    data: options.rows, index: "key", columns: options.columns, height: options.height || "100%", layout: "fitColumns",
    autoResize: false, responsiveLayout: options.keep ? false : "hide", rowHeight: options.rowHeight, rowFormatter: mark, placeholder: options.empty || "nothing fits the filter", selectableRows: false,
    columnDefaults: { headerSortTristate: true, resizable: false, vertAlign: "middle" },
  });
  const shown = () => table.getRows("active").map((row) => row.getData());
  function pick(key, scroll = true) {
    const before = picked;
    picked = key;
    for (const one of [before, key]) {
      const row = one !== null && table.getRow(one);
      if (row) mark(row);
    }
    const row = key !== null && table.getRow(key);
    if (scroll && row && table.getRows("active").includes(row)) table.scrollToRow(row, "center", false).catch(() => {});
  }
  function step(by) {
    const rows = shown(), at = rows.findIndex((row) => row.key === picked);
    const next = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
    if (next && next.key !== picked) { pick(next.key); options.open(next); }
  }
  // Tabulator's own redraw, also when a list comes into view, would go back to the first row.
  function redraw() {
    const holder = inside.querySelector(".tabulator-tableholder"), top = holder.scrollTop;
    table.redraw(true);
    holder.scrollTop = top;
  }
  let size = "";
  function resized() {
    const now = `${host.clientWidth} ${host.clientHeight}`;
    if (now === size || !host.clientWidth) return;
    if (size) redraw();
    size = now;
  }
  table.on("rowClick", (_, row) => { pick(row.getData().key, false); options.open(row.getData()); });
  host.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  table.on("tableBuilt", () => {
    new ResizeObserver(resized).observe(host);
    ready({ pick, step, shown, redraw, table, filter: (keep) => table.setFilter(keep) });
  });
});
