// What every screen does by itself: figures, elements that ask again, messages, the theme, keys.
(() => {
  const root = document.documentElement.dataset.root;
  const format = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  const one = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const shown = {
    cpu: (v) => `${Math.round(v * 100)} %`,
    memory: (v) => (v >= 1e9 ? `${(v / 1e9).toPrecision(3)} GB` : `${(v / 1e6).toPrecision(3)} MB`),
    p50: (v) => one.format(v),
    p99: (v) => one.format(v),
  };

  // -- figures, once a second

  const show = (figures) => {
    for (const element of document.querySelectorAll("[data-figure]")) {
      const value = figures[element.dataset.figure];
      const how = shown[element.dataset.figure] ?? ((v) => format.format(v));
      const text = value === null || value === undefined ? "–" : how(value);
      if (element.textContent !== text) element.textContent = text;
    }
    const missing = Object.entries(figures.missing).map(([name, why]) => `${name}: ${why}`);
    state(figures.state, missing.join("\n"));
    const wrong = [
      ...Object.entries(figures.outages).map(([name, why]) => `${name} is unreachable: ${why}`),
      ...figures.stalled.map((what) => `stalled: ${what}`),
    ];
    const banner = document.getElementById("outages");
    banner.hidden = wrong.length === 0;
    banner.textContent = wrong.join("\n");
  };

  const state = (word, title = "") => {
    const element = document.getElementById("state");
    if (!element) return;
    element.dataset.state = word;
    element.textContent = word;
    element.title = title;
  };

  let source = null;
  let missed = false;
  const watch = () => {
    if (source || !document.getElementById("state")) return;
    source = new EventSource(`${root}/ui/pulse`);
    source.onmessage = (event) => {
      const figures = JSON.parse(event.data);
      lost(false);
      show(figures);
      document.dispatchEvent(new CustomEvent("pulse", { detail: figures }));
    };
    source.onerror = () => {
      lost(true);
      // A refusal ends an EventSource for good, an end of the connection does not.
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(watch, 2000);
      }
    };
  };
  const lost = (is) => {
    document.getElementById("lost").hidden = !is;
    if (is) state("not answering");
    if (missed && !is) ask();
    missed = is;
  };

  // -- elements that ask again while they are looked at, and nobody types or reads what he has opened in them

  const asked = new WeakMap();
  const ask = (only = () => true, opened = "dialog[open], details[open]") => {
    for (const element of document.querySelectorAll("[data-every]")) {
      const busy = element.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
      const open = element.querySelector(opened) || element.classList.contains("htmx-request");
      if (!only(element) || busy || open || document.hidden) continue;
      asked.set(element, performance.now());
      htmx.trigger(element, "again");
    }
  };
  document.addEventListener("pulse", () =>
    ask((element) => performance.now() - (asked.get(element) ?? 0) >= element.dataset.every * 1000 - 500),
  );
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  document.addEventListener("changed", () => ask(undefined, "dialog[open]"));

  // -- messages of actions

  document.addEventListener("toast", (event) => toast(event.detail.text, event.detail.kind));
  document.addEventListener("htmx:error", () => toast("The worker does not answer", "bad"));
  const toast = (text, kind) => {
    const message = document.createElement("div");
    message.className = `toast ${kind}`;
    message.textContent = text;
    document.getElementById("toasts").append(message);
    setTimeout(() => message.remove(), kind === "bad" ? 12000 : 5000);
  };

  // -- times in the reader's zone

  const times = (within) => {
    for (const element of within.querySelectorAll("time[datetime]")) {
      element.title ||= element.dateTime;
    }
  };

  // -- theme and keys

  document.getElementById("theme").addEventListener("click", () => {
    const html = document.documentElement;
    html.dataset.theme = html.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", html.dataset.theme); } catch { /* a browser that keeps nothing */ }
    document.dispatchEvent(new CustomEvent("theme"));
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const search = document.querySelector("main input:not([type=hidden])");
      if (search) { event.preventDefault(); search.focus(); }
    }
    const step = { "]": 1, "[": -1 }[event.key];
    if (step) {
      const links = [...document.querySelectorAll(".top nav a")];
      const at = links.findIndex((link) => link.getAttribute("aria-current"));
      links[(at + step + links.length) % links.length]?.click();
    }
  });

  for (const current of document.querySelectorAll("nav [aria-current]")) current.scrollIntoView({ block: "nearest", inline: "center" });
  times(document);
  watch();
})();
