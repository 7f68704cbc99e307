// Curves, by uPlot. `Viewer.chart(host, options)` draws one into an element, in the colours of the theme, as wide as the
// element; the legend stands below it. It returns {show(a Set of names, whether with bands), destroy()}.
//
// options: {title, x, y, range: [low, high] or null, log: whether y is logarithmic,
//           curves: [{name, colour: number, points: [[x, y], …], band: [[low, high], …] or null}]}
"use strict";
(() => {
  const COLOURS = 12, DASHES = [[], [8, 4], [2, 3]];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  Viewer.colour = (n) => `var(--run${n % COLOURS})`;
  Viewer.dash = (n) => DASHES[Math.floor(n / COLOURS) % DASHES.length];

  const drawn = new Set();
  const again = () => drawn.forEach((chart) => chart.redraw(false, true));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);

  function columns(curves) {
    const xs = [...new Set(curves.flatMap((curve) => curve.points.map((p) => p[0])))].sort((a, b) => a - b);
    const place = new Map(xs.map((x, i) => [x, i])), data = [xs];
    const column = (points, of) => {
      const out = new Array(xs.length).fill(null);
      points.forEach((p, i) => { out[place.get(p[0])] = of(p, i); });
      data.push(out);
    };
    for (const curve of curves) {
      column(curve.points, (p) => p[1]);
      if (curve.band) for (const side of [0, 1]) column(curve.points, (_, i) => curve.band[i][side]);
    }
    return data;
  }

  Viewer.chart = (host, options) => {
    host.classList.add("chart");
    host.replaceChildren(Viewer.make("h3", "", options.title));
    const axis = (label, size) => ({ label, size, labelSize: 16, stroke: () => css("--muted"), font: "12px system-ui", labelFont: "12px system-ui",
      grid: { stroke: () => css("--line"), width: 1 }, ticks: { stroke: () => css("--line"), width: 1 } });
    const series = [{ label: options.x }], bands = [], of = new Map();
    const show = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : +value.toPrecision(3) + "");
    series[0].value = (_, value) => show(value);
    for (const curve of options.curves) {
      const stroke = () => css(`--run${curve.colour % COLOURS}`), first = series.length;
      const alone = curve.points.length === 1;
      series.push({ label: curve.name, stroke, width: 2, dash: Viewer.dash(curve.colour), spanGaps: true, value: (_, value) => show(value),
        points: { show: alone || curve.points.length <= 12, size: alone ? 8 : 5, fill: stroke } });
      of.set(curve.name, [first]);
      if (curve.band) {
        for (const side of [1, 2]) {
          series.push({ label: curve.name, width: 0, points: { show: false }, stroke: "transparent", spanGaps: true });
          of.get(curve.name).push(first + side);
        }
        bands.push({ series: [first + 2, first + 1], fill: () => `color-mix(in srgb, ${stroke()} 14%, transparent)` });
      }
    }
    const [wide, high] = [Math.max(200, host.clientWidth), options.height || 240];
    const whole = options.curves.every((curve) => curve.points.every((p) => Number.isInteger(p[0])));
    const chart = new uPlot({
      width: wide, height: high, series, bands, cursor: { y: false, focus: { prox: 24 } }, focus: { alpha: 0.2 },
      scales: { x: { time: false }, y: options.log ? { distr: 3 } : options.range ? { range: options.range } : {} },
      axes: [{ ...axis(options.x, 34), incrs: whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000] : undefined }, axis(options.y, 44)],
      legend: { show: true, live: true, markers: { width: 0, fill: (u, n) => u.series[n].stroke(u, n) } },
    }, columns(options.curves), host);
    const rows = [...host.querySelectorAll(".u-series")];
    for (const [, places] of of) for (const place of places.slice(1)) rows[place].hidden = rows[place].style.display = "none";
    drawn.add(chart);
    const resize = new ResizeObserver(() => { if (host.clientWidth) chart.setSize({ width: Math.max(200, host.clientWidth), height: high }); });
    resize.observe(host);
    return {
      show: (names, bands = true) => {
        chart.batch(() => {
          for (const [name, places] of of) places.forEach((place, n) => chart.setSeries(place, { show: names.has(name) && (bands || !n) }));
        });
      },
      destroy: () => { resize.disconnect(); drawn.delete(chart); chart.destroy(); },
    };
  };
})();
