// The arena. Until the vote the server alone knows who answers; after a reload it shows the battle
// that is still to be judged.
const page = element.querySelector(".rl-battle");
const find = (selector) => page.querySelector(selector);
const all = (selector) => [...page.querySelectorAll(selector)];
const VOTES = ["left", "right", "tie", "both_bad", "skip"];
const KEYS = JSON.parse(page.dataset.keys);
const box = find("#rl-ask");

let item = null;
let shownAt = 0;
let past = null; // the battle from whose better answer the next prompt goes on

// What can be done: ask, then wait (answering), judge, wait (sending), and read the names (told).
function enter(state, words = "") {
  page.dataset.state = state;
  const asks = state === "ask";
  find(".rl-ask").hidden = !asks;
  find(".rl-work").hidden = asks;
  find(".rl-talk").hidden = !find(".rl-talk").children.length;
  find("[data-votes]").hidden = state === "told";
  find("[data-after]").hidden = state !== "told";
  for (const button of all("[data-votes] button")) button.disabled = state !== "judge";
  find(".rl-pair").setAttribute("aria-busy", String(state === "answering"));
  find("[data-told]").textContent = words;
  find("[data-live]").textContent = words;
}

// The turns so far: some are rendered and cleaned by the server, a new one is as it was typed.
function recall(messages) {
  converse(find(".rl-talk"), messages, (place, { html, text }) => {
    if (html === undefined) place.textContent = text;
    else place.innerHTML = html;
  });
}

function ask() {
  item = null;
  recall(past ? past.messages : []);
  find(".rl-ask [data-do=next]").hidden = !past;
  enter("ask");
  if (page.dataset.mode === "battle") box.focus();
}

function write(responses) {
  all(".rl-pair .rl-text").forEach((place, index) => {
    place.innerHTML = responses[index]; // rendered and cleaned by the server
  });
}

function name(policies) {
  all(".rl-name").forEach((place, index) => {
    place.hidden = !policies.length;
    place.textContent = policies[index] || "";
  });
}

function judge(battle) {
  item = battle;
  recall(item.messages);
  write(item.responses);
  name([]);
  letScroll();
  shownAt = performance.now();
  enter("judge", say("which_better"));
}

async function fight(prompt) {
  notice("");
  write(["", ""]);
  name([]);
  recall([...(past ? past.messages : []), { role: "user", text: prompt }]);
  enter("answering", say("answering"));
  find(".rl-work").focus();
  let why = say("server_silent");
  try {
    for await (const line of linesOf(await request("/api/arena", { prompt, after: past && past.number }))) {
      if (line.responses) write(line.responses);
      if (line.item) {
        box.value = "";
        return judge(line.item);
      }
      why = line.notice || (line.detail && sentence(line.detail)) || why;
    }
  } catch (error) {
    if (error.status) why = sentence(error.message);
  }
  await refresh(); // it may have been stored though the line that says so was lost
  if (!item) notice(why);
}

async function vote(choice) {
  if (page.dataset.state !== "judge") return;
  enter("sending");
  const answer = { assignment: item.assignment, choice, key: freshKey(), elapsed_ms: since(shownAt) };
  try {
    const { policies } = await insist(() => call("/api/arena/votes", answer));
    if (!policies.length) return ask();
    name(policies);
    const better = { left: 0, right: 1, tie: 0 }[choice];
    if (better !== undefined) {
      const answer = { role: "assistant", html: item.responses[better] };
      past = { number: item.assignment, messages: [...item.messages, answer] };
    }
    find("[data-do=continue]").hidden = !past;
    enter("told", say("they_were", { left: policies[0], right: policies[1] }));
    find("[data-after] [data-do=next]").focus();
  } catch (error) {
    if ([404, 409].includes(error.status)) await refresh(); // it is not to be judged here any more
    else enter("judge", say("which_better"));
    notice(sentence(error.message));
  }
}

async function refresh() {
  const { item: battle } = await insist(() => call("/api/arena"));
  if (battle) judge(battle);
  else ask();
}

find(".rl-ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = box.value;
  if (prompt.trim()) fight(prompt);
  else box.focus();
});

sendsOnEnter(box);

page.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button) return;
  if (button.dataset.do === "next") past = null;
  if (["next", "continue"].includes(button.dataset.do)) ask();
  else vote(button.dataset.do);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable=true]");
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = actionOf(event, KEYS);
  if (page.dataset.mode !== "battle" || !VOTES.includes(action)) return;
  event.preventDefault();
  vote(action);
});

// Blind or chosen, as the address says; other places of the page have names there too.
function choose() {
  if (!["", "#battle", "#chosen"].includes(location.hash)) return;
  page.dataset.mode = location.hash === "#chosen" ? "chosen" : "battle";
  for (const link of all(".rl-modes a")) {
    if (link.hash === "#" + page.dataset.mode) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  find(".rl-arena").hidden = page.dataset.mode !== "battle";
}

window.addEventListener("hashchange", choose);
window.addEventListener("resize", letScroll);

async function start() {
  choose();
  await rlWords.ready;
  rlWords.fill(element);
  for (const place of all("[data-number]")) place.textContent = say("response_n", place.dataset);
  await refresh();
}

start();
