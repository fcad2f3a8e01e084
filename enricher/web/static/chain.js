// The option chain begins with the money in the middle, from above and from the side.
(() => {
  const box = document.getElementById("chain");
  const strike = box?.querySelector("#atm .k") ?? box?.querySelector("tbody .k");
  if (!strike) return;
  box.scrollTop = strike.offsetTop - (box.clientHeight - strike.offsetHeight) / 2;
  const table = box.querySelector("table");
  box.scrollLeft = (table.scrollWidth - box.clientWidth) / 2;
})();
