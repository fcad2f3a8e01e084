// The last hour as lines: what the page came with, and a point more every five seconds.
(() => {
  const STEP = 5;
  const points = JSON.parse(document.getElementById("history").textContent);
  // at, received, processed, dead, p50, p99, in pool, cpu; where the worker was down is a hole.
  const columns = (fields) => {
    const rows = [];
    for (const point of points) {
      const before = rows.at(-1);
      if (before && point[0] - before[0] > 3 * STEP) rows.push([before[0] + STEP]);
      rows.push(point);
    }
    return [0, ...fields].map((field) => rows.map((row) => row[field] ?? null));
  };
  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1, notation: "compact" });
  const rates = lines(document.getElementById("rates"), [
    { label: "received", colour: "--blue", fill: true },
    { label: "processed", colour: "--green" },
  ], columns([1, 2]), { format: (v) => whole.format(v) });
  const latencies = lines(document.getElementById("latencies"), [
    { label: "p99", colour: "--amber", fill: true },
    { label: "p50", colour: "--green" },
  ], columns([5, 4]), { format: (v) => whole.format(v) });
  document.addEventListener("pulse", (event) => {
    const point = event.detail.point;
    if (!point || point[0] <= (points.at(-1)?.[0] ?? 0)) return;
    points.push(point);
    while (points[0][0] < point[0] - 3600) points.shift();
    rates.set(columns([1, 2]));
    latencies.set(columns([5, 4]));
  });
})();
