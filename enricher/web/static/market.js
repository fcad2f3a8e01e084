// The chart of a product: candles that move, and the lines of the day.
(() => {
  const element = document.getElementById("candles");
  const root = document.documentElement.dataset.root;
  const { product, minutes, expiry, zone } = element.dataset;
  const api = `${root}/api/v1/market/${product}`;
  const LC = LightweightCharts;
  const ask = async (path) => {
    const answer = await fetch(path, { headers: { accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  };

  // -- times of the exchange, figures as they are read

  const format = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
  const clock = format({ hour: "2-digit", minute: "2-digit" });
  const full = format({ day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });
  const day = format({ day: "2-digit", month: "short" });
  const price = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 });
  const signed = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "always" });
  const text = (number, how = price) => (number === null || number === undefined ? "–" : how.format(number));

  // -- candles with volume

  const bars = new Map(); // start: [start, open, high, low, close, volume]
  const chart = LC.createChart(element, {
    autoSize: true,
    layout: { attributionLogo: false, background: { color: "transparent" }, fontFamily: "system-ui", fontSize: 12 },
    crosshair: { mode: LC.CrosshairMode.Normal },
    rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.1, bottom: 0.22 } },
    timeScale: {
      borderVisible: false,
      timeVisible: true,
      secondsVisible: false,
      rightOffset: 4,
      tickMarkFormatter: (at, kind) => (kind < 3 ? day : clock).format(at * 1000),
    },
    localization: { timeFormatter: (at) => full.format(at * 1000), priceFormatter: (v) => price.format(v) },
  });
  const candles = chart.addSeries(LC.CandlestickSeries, { borderVisible: false });
  const volumes = chart.addSeries(LC.HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
  chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });
  let forward = null;

  const paint = () => {
    const [up, down, quiet, line] = ["--green", "--red", "--quiet", "--line"].map(colour);
    chart.applyOptions({ layout: { textColor: quiet }, grid: { vertLines: { color: line }, horzLines: { color: line } } });
    candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    forward?.applyOptions({ color: colour("--violet") });
    redraw();
  };
  const candle = ([time, open, high, low, close]) => ({ time, open, high, low, close });
  const volume = ([time, open, , , close, value]) => ({ time, value: value ?? 0, color: `${colour(close >= open ? "--green" : "--red")}66` });
  const redraw = () => {
    const all = [...bars.values()].sort((a, b) => a[0] - b[0]);
    candles.setData(all.map(candle));
    volumes.setData(all.map(volume));
  };
  const take = (some) => {
    for (const bar of some) bars.set(bar[0], bar);
  };

  const legend = document.getElementById("legend");
  let pointed = null;
  const tell = () => {
    const bar = bars.get(pointed ?? Math.max(...bars.keys()));
    legend.textContent = bar
      ? `${full.format(bar[0] * 1000)}   O ${text(bar[1])}  H ${text(bar[2])}  L ${text(bar[3])}  C ${text(bar[4])}  V ${text(bar[5], compact)}`
      : "No bar of this length is closed yet";
  };
  chart.subscribeCrosshairMove((at) => { pointed = at.time ?? null; tell(); });

  const show = (answer) => {
    const newest = Math.max(0, ...bars.keys());
    const some = [...answer.closed, ...answer.moving];
    const revised = some.filter((bar) => bar[0] < newest && String(bars.get(bar[0])) !== String(bar));
    take(some);
    if (revised.length || newest === 0) redraw();
    else for (const bar of some.filter((each) => each[0] >= newest)) { candles.update(candle(bar)); volumes.update(volume(bar)); }
    if (answer.forward) {
      forward ??= candles.createPriceLine({ price: answer.forward, color: colour("--violet"), lineStyle: LC.LineStyle.Dashed, lineWidth: 1, title: "forward" });
      forward.applyOptions({ price: answer.forward });
    }
    if (answer.last) {
      const { price: last, base } = answer.last;
      for (const each of document.querySelectorAll("[data-last]")) each.textContent = text(last);
      const change = document.querySelector("[data-change] span");
      if (change && base) {
        change.textContent = `${signed.format(last - base)} (${signed.format(100 * (last / base - 1))} %)`;
        change.className = last > base ? "good" : last < base ? "bad" : "";
      }
    }
    tell();
  };

  let since = 0;
  let asking = false;
  const follow = async () => {
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await ask(`${api}/candles?minutes=${minutes}&since=${since}`);
      since = answer.closed.at(-1)?.[0] ?? since;
      show(answer);
    } catch { /* the top of the page says when the worker does not answer */ }
    asking = false;
  };
  let ended = false;
  const earlier = async (range) => {
    if (!range || range.from > 20 || ended || asking || !bars.size) return;
    asking = true;
    try {
      const answer = await ask(`${api}/candles?minutes=${minutes}&before=${Math.min(...bars.keys())}`);
      ended = answer.closed.length === 0;
      take(answer.closed);
      if (!ended) redraw();
    } catch { /* asked again with the next move */ }
    asking = false;
  };

  const begin = JSON.parse(document.getElementById("begin").textContent);
  since = begin.closed.at(-1)?.[0] ?? 0;
  show(begin);
  paint();
  const length = bars.size;
  chart.timeScale().setVisibleLogicalRange({ from: length - Math.min(Math.max(length, 40), 120), to: length + 4 });
  chart.timeScale().subscribeVisibleLogicalRangeChange(earlier);
  document.addEventListener("theme", paint);
  setInterval(follow, 1500);

  // -- the day as lines

  const plots = {
    straddle: [["straddle", "--blue", 2]],
    atm_iv: [["ATM IV", "--amber", 4]],
    pcr: [["PCR", "--violet", 1]],
    max_pain: [["max pain", "--violet", 3], ["spot", "--blue", 5]],
  };
  const drawn = {};
  const lay = async () => {
    if (document.hidden || !document.getElementById("straddle")) return;
    try {
      const { moments } = await ask(`${api}/intraday?expiry=${encodeURIComponent(expiry)}`);
      for (const [id, fields] of Object.entries(plots)) {
        const data = [moments.map((m) => m[0]), ...fields.map(([, , at]) => moments.map((m) => (id === "atm_iv" && m[at] !== null ? 100 * m[at] : m[at])))];
        if (drawn[id]) drawn[id].set(data);
        else drawn[id] = lines(document.getElementById(id), fields.map(([label, name], at) => ({ label, colour: name, fill: fields.length === 1, width: 1.5, stepped: at === 0 && id === "max_pain" })), data, { format: (v) => text(v), hours: 24, height: 180, zero: false, zone });
      }
    } catch { /* asked again in half a minute */ }
  };
  lay();
  setInterval(lay, 30000);
})();
