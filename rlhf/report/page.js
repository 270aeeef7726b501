// Filters and pages the cases; without scripts all of them are simply there.
const PAGE = 20;
const tools = document.querySelector(".bar-tools");
if (tools) {
  const cases = [...document.querySelectorAll("article[data-best]")];
  const [show, order] = tools.querySelectorAll("select");
  const find = tools.querySelector("input");
  const [back, next] = tools.querySelectorAll("button");
  const parent = cases[0].parentElement;
  let page = 0;

  const wanted = (el) => {
    const rule = show.value;
    if (rule === "cut" && el.dataset.cut === undefined) return false;
    if (rule === "tie" && el.dataset.best !== "") return false;
    if (/^\d+$/.test(rule) && el.dataset.best !== rule) return false;
    return el.textContent.toLowerCase().includes(find.value.trim().toLowerCase());
  };
  const draw = () => {
    const key = { given: (el) => Number(el.dataset.place), gap: (el) => -Number(el.dataset.gap) };
    const found = cases.filter(wanted).sort((a, b) => key[order.value](a) - key[order.value](b));
    page = Math.max(0, Math.min(page, Math.ceil(found.length / PAGE) - 1));
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    for (const el of cases) el.hidden = true;
    for (const el of shown) { el.hidden = false; parent.append(el); }
    const first = page * PAGE + 1;
    tools.querySelector("output").textContent = found.length
      ? `${first}–${first + shown.length - 1} of ${found.length}` : "none";
    back.disabled = page === 0;
    next.disabled = (page + 1) * PAGE >= found.length;
  };
  const again = () => { page = 0; draw(); };
  const turn = (by) => { page += by; draw(); tools.scrollIntoView(); };
  show.onchange = order.onchange = find.oninput = again;
  back.onclick = () => turn(-1);
  next.onclick = () => turn(1);
  tools.hidden = false;
  draw();
}
