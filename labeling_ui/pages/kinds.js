// How each kind of task is answered, apart from choosing between two, which has buttons of its own.
// An entry draws its part of the answer bar into `place`, tells what its actions and keys do, and
// what was answered: the fields of the vote, or a sentence on what is missing. `say` and `keysOf`
// are of the scripts around this one.
const make = (tag, fields = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...children);
  return node;
};

// Keys without a character: no keymap can take them, and they are the same on every keyboard.
const SIGNS = { Enter: "↵", "Control+Enter": "Ctrl ↵", Backspace: "⌫" };

// A button for an action of the keymap, or for one of those keys.
function button(text, does, look, press) {
  const node = make("button", { type: "button", className: look, onclick: press }, make("span", {}, text));
  const keys = SIGNS[does] ? [does] : keysOf(does);
  node.dataset.own = does;
  if (keys.length) {
    if (keys[0] !== text) node.append(make("kbd", {}, SIGNS[does] || keys[0]));
    node.setAttribute("aria-keyshortcuts", keys.join(" "));
  }
  return node;
}

// A row of choices of which one is taken, or none.
function row(label, choices, changed) {
  const chips = choices.map(([value, text, does = ""]) => {
    const chip = button(text, does, "rl-chip", () => take(value));
    chip.dataset.value = value;
    chip.dataset.own = `${label} ${value}`;
    return chip;
  });
  const take = (value) => {
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.value === String(value)));
    group.taken = value;
    changed();
  };
  const group = make("div", { className: "rl-chips rl-aspect" }, make("span", { className: "rl-hint", dir: "auto" }, label), ...chips);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  for (const chip of chips) chip.setAttribute("aria-pressed", "false");
  return Object.assign(group, { take, taken: null });
}

function ranking(place, { papers, submit }) {
  let groups = [];
  let ties = false;
  const order = make("p", { className: "rl-hint" });
  order.setAttribute("role", "status");
  const tie = button(say("tie_with_last"), "rank_tie", "rl-chip", () => setTies(!ties));
  const setTies = (on) => {
    ties = on;
    tie.setAttribute("aria-pressed", String(on));
  };
  const paint = () => {
    papers.forEach((paper, index) => {
      const rank = groups.findIndex((group) => group.includes(index));
      paper.dataset.rank = rank < 0 ? "" : rank + 1;
      places[index].textContent = rank < 0 ? "" : rank + 1;
      places[index].hidden = rank < 0;
    });
    order.textContent = groups.map((group) => group.map((i) => i + 1).join(" = ")).join("  >  ") || say("rank_help");
  };
  const put = (index) => {
    if (groups.flat().includes(index)) groups = groups.map((g) => g.filter((i) => i !== index)).filter((g) => g.length);
    else if (ties && groups.length) groups.at(-1).push(index);
    else groups.push([index]);
    setTies(false);
    paint();
  };
  const back = () => {
    const last = groups.at(-1);
    if (last) put(last.at(-1));
  };
  const places = papers.map(() => make("span", { className: "rl-place" }));
  papers.forEach((paper, index) => {
    paper.querySelector("h2").append(places[index], button(say("rank_next"), `rank_${index + 1}`, "rl-chip", () => put(index)));
  });
  setTies(false);
  paint();
  place.append(order, make("div", { className: "rl-keys" }, tie, button(say("take_back"), "Backspace", "rl-side", back),
    button(say("ranked"), "Enter", "rl-main", () => submit())));
  return {
    does: {
      ...Object.fromEntries(papers.map((_, index) => [`rank_${index + 1}`, () => put(index)])),
      rank_tie: () => setTies(!ties),
      Backspace: back,
      Enter: () => submit(),
    },
    answer: () => groups.flat().length === papers.length ? { choice: "ranked", ranking: groups } : say("rank_all"),
  };
}

function rating(place, { aspects, submit }) {
  let current = 0;
  const values = [1, 2, 3, 4, 5];
  const rows = aspects.map((name, index) =>
    row(name, values.map((n) => [n, String(n), `rate_${n}`]), () => point(index + 1)));
  const point = (index) => {
    current = Math.max(0, Math.min(index, rows.length - 1));
    rows.forEach((one, i) => one.classList.toggle("rl-current", i === current));
  };
  point(0);
  place.append(...rows, make("div", { className: "rl-keys" }, button(say("rated"), "Enter", "rl-main", () => submit())));
  return {
    does: {
      ...Object.fromEntries(values.map((n) => [`rate_${n}`, () => rows[current].take(n)])),
      ArrowDown: () => point(current + 1),
      ArrowUp: () => point(current - 1),
      Enter: () => submit(),
    },
    answer: () => rows.every((one) => one.taken !== null)
      ? { choice: "rated", aspects: Object.fromEntries(rows.map((one, i) => [aspects[i], one.taken])) }
      : say("rate_all"),
  };
}

function thumbs(place, { submit }) {
  place.append(make("div", { className: "rl-keys" },
    button(say("good"), "good", "rl-main", () => submit("good")),
    button(say("bad"), "bad", "rl-main", () => submit("bad"))));
  return {
    does: { good: () => submit("good"), bad: () => submit("bad") },
    answer: (choice) => ({ choice }),
  };
}

function rewrite(place, { texts, submit }) {
  const box = make("textarea", { className: "rl-reason rl-rewrite", value: texts[0], dir: "auto", maxLength: 50000 });
  const label = make("p", { className: "rl-hint" }, say("rewrite_label"), " ", make("kbd", {}, keysOf("rewrite")[0]));
  box.setAttribute("aria-label", say("rewrite_label"));
  box.setAttribute("aria-keyshortcuts", keysOf("rewrite").join(" "));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  place.append(label, box, make("div", { className: "rl-keys" }, button(say("rewritten"), "Control+Enter", "rl-main", () => submit())));
  return {
    does: { rewrite: () => box.focus() },
    answer: () => box.value.trim() ? { choice: "rewritten", text: box.value } : say("rewrite_first"),
  };
}

// Which of two is better by each aspect; none of them must be said.
function sides(place, { aspects }) {
  const rows = aspects.map((name) => row(name, [["left", "1"], ["tie", say("same")], ["right", "2"]], () => {}));
  if (rows.length) place.append(make("p", { className: "rl-hint" }, say("aspects_optional")), ...rows);
  return {
    does: {},
    answer: (choice) => ({
      choice,
      aspects: Object.fromEntries(rows.flatMap((one, i) => one.taken === null ? [] : [[aspects[i], one.taken]])),
    }),
  };
}

const KINDS = { pairwise: sides, ranking, rating, thumbs, rewrite };
