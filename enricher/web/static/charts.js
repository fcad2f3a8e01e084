// Lines over time, in the colours of the theme.
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// `series`: [{label, colour: "--name", fill, width, stepped}]; `data` as uPlot takes it. Drawn again with another
// theme. The axis begins with 0, unless `zero` is false; times are the reader's, or those of a `zone`.
const lines = (element, series, data, { format = (v) => v, hours = 1, height = 220, legend = true, zero = true, zone } = {}) => {
  const clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" });
  const moment = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const range = (from, to) => {
    if (zero) return [0, Math.max(to * 1.1, 1)];
    const room = (to - from || Math.abs(to) * 0.01 || 1) * 0.1;
    return [from - room, to + room];
  };
  let plot = null;
  const draw = () => {
    const held = plot ? plot.data : data;
    plot?.destroy();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    plot = new uPlot(
      {
        width: element.clientWidth,
        height,
        legend: { show: legend, live: true },
        cursor: { points: { size: 6 }, y: false, sync: { key: "time" } },
        // From ten minutes on the axis grows with what there is.
        scales: { x: { time: true, range: (_, from, to) => [Math.max(to - hours * 3600, Math.min(from, to - 600)), to] }, y: { range: (_, from, to) => (from === null ? [0, 1] : range(from, to)) } },
        axes: [{ ...axis, size: 28, values: (_, all) => all.map((at) => clock.format(at * 1000)) }, { ...axis, size: (_, all) => Math.max(40, 14 + 7 * Math.max(0, ...(all ?? []).map((text) => text.length))), values: (_, all) => all.map(format) }],
        series: [{ label: "Time", value: (_, at) => (at ? moment.format(at * 1000) : "–") }, ...series.map((each) => ({
          label: each.label,
          stroke: colour(each.colour),
          fill: each.fill ? `${colour(each.colour)}22` : undefined,
          width: each.width ?? 1.5,
          points: { show: false },
          paths: each.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
          spanGaps: false,
          value: (_, v) => (v === null || v === undefined ? "–" : format(v)),
        }))],
      },
      held,
      element,
    );
  };
  draw();
  new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height })).observe(element);
  document.addEventListener("theme", draw);
  return { set: (changed) => plot.setData(changed) };
};
