// How each kind of task is answered, apart from choosing between two, which has buttons of its own.
// An entry draws its part of the answer bar into `place`, takes keys, and says what was answered:
// the fields of the vote, or a sentence on what is missing. `say` is rate.js's, which follows.
const make = (tag, fields = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...children);
  return node;
};

function button(text, key, look, press) {
  const node = make("button", { type: "button", className: look, onclick: press }, make("span", {}, text));
  if (key) {
    node.append(make("kbd", {}, key));
    node.setAttribute("aria-keyshortcuts", key);
  }
  return node;
}

// A row of choices of which one is taken, or none.
function row(label, choices, changed) {
  const chips = choices.map(([value, text]) => {
    const chip = button(text, "", "rl-chip", () => take(value));
    chip.dataset.value = value;
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
  const tie = button(say("tie_with_last"), "=", "rl-chip", () => setTies(!ties));
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
    paper.querySelector("h2").append(places[index], button(say("rank_next"), String(index + 1), "rl-chip", () => put(index)));
  });
  setTies(false);
  paint();
  place.append(order, make("div", { className: "rl-keys" }, tie, button(say("take_back"), "⌫", "rl-side", back),
    button(say("ranked"), "↵", "rl-main", () => submit())));
  return {
    key(event) {
      const index = Number(event.key) - 1;
      if (event.key === "=") setTies(!ties);
      else if (event.key === "Backspace") back();
      else if (event.key === "Enter" && !event.target.closest("button")) submit();
      else if (index >= 0 && index < papers.length) put(index);
      else return false;
      return true;
    },
    answer: () => groups.flat().length === papers.length ? { choice: "ranked", ranking: groups } : say("rank_all"),
  };
}

function rating(place, { aspects, submit }) {
  let current = 0;
  const rows = aspects.map((name, index) => row(name, [1, 2, 3, 4, 5].map((n) => [n, String(n)]), () => point(index + 1)));
  const point = (index) => {
    current = Math.max(0, Math.min(index, rows.length - 1));
    rows.forEach((one, i) => one.classList.toggle("rl-current", i === current));
  };
  point(0);
  place.append(...rows, make("div", { className: "rl-keys" }, button(say("rated"), "↵", "rl-main", () => submit())));
  return {
    key(event) {
      const value = Number(event.key);
      if (value >= 1 && value <= 5) rows[current].take(value);
      else if (event.key === "ArrowDown") point(current + 1);
      else if (event.key === "ArrowUp") point(current - 1);
      else if (event.key === "Enter" && !event.target.closest("button")) submit();
      else return false;
      return true;
    },
    answer: () => rows.every((one) => one.taken !== null)
      ? { choice: "rated", aspects: Object.fromEntries(rows.map((one, i) => [aspects[i], one.taken])) }
      : say("rate_all"),
  };
}

function thumbs(place, { submit }) {
  const choices = { 1: "good", 2: "bad" };
  place.append(make("div", { className: "rl-keys" }, ...Object.entries(choices).map(
    ([key, choice]) => button(say(choice), key, "rl-main", () => submit(choice)))));
  return {
    key(event) {
      const choice = choices[event.key];
      if (choice) submit(choice);
      return Boolean(choice);
    },
    answer: (choice) => ({ choice }),
  };
}

function rewrite(place, { texts, submit }) {
  const box = make("textarea", { className: "rl-reason rl-rewrite", value: texts[0], dir: "auto", maxLength: 50000 });
  box.setAttribute("aria-label", say("rewrite_label"));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
  });
  place.append(box, make("div", { className: "rl-keys" }, button(say("rewritten"), "Ctrl ↵", "rl-main", () => submit())));
  return {
    key(event) {
      if (event.key !== "e") return false;
      event.preventDefault();
      box.focus();
      return true;
    },
    answer: () => box.value.trim() ? { choice: "rewritten", text: box.value } : say("rewrite_first"),
  };
}

// Which of two is better by each aspect; none of them must be said.
function sides(place, { aspects }) {
  const rows = aspects.map((name) => row(name, [["left", "1"], ["tie", say("same")], ["right", "2"]], () => {}));
  if (rows.length) place.append(make("p", { className: "rl-hint" }, say("aspects_optional")), ...rows);
  return {
    key: () => false,
    answer: (choice) => ({
      choice,
      aspects: Object.fromEntries(rows.flatMap((one, i) => one.taken === null ? [] : [[aspects[i], one.taken]])),
    }),
  };
}

const KINDS = { pairwise: sides, ranking, rating, thumbs, rewrite };
