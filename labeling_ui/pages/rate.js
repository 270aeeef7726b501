// The rating page. An answer is kept in this browser until the server has stored it; sending it
// again is harmless, because it carries its own key.
const page = element.querySelector(".rl-rate");
const find = (selector) => page.querySelector(selector);
const all = (selector) => [...page.querySelectorAll(selector)];
const ANSWERS = ["left", "right", "tie", "both_bad", "skip"];
const BEAT_MS = 60_000;
const KEYS = JSON.parse(page.dataset.keys); // by kind of task, by action

let me = "";
let campaigns = [];
let campaign = null;
let item = null;
let shownAt = 0;
let busy = true;
let exact = false;
let kind = null; // how the item on the screen is answered

// The path of what is asked of the campaign, at the desk of a rater or of one who decides.
const path = (what, { name, desk } = campaign) => `/api/campaigns/${encodeURIComponent(name)}/${what}?html=true&desk=${desk}`;
const unsentPrefix = () => "rlhf-unsent/" + me + "/";

// One thing at a time. What is refused is said, and leaves the screen and all that was typed as it is.
async function alone(work, silent = "") {
  if (busy) return;
  busy = true;
  const before = page.dataset.state;
  try {
    await work();
  } catch (error) {
    page.dataset.state = before;
    if (!error.status && !silent) throw error;
    notice(error.status ? sentence(error.message) : say(silent));
  } finally {
    busy = false;
  }
}

async function deliver(unsent) {
  const place = unsentPrefix() + unsent.vote.key;
  try {
    return await insist(() => call(unsent.path, unsent.vote));
  } finally {
    localStorage.removeItem(place);
  }
}

async function deliverLeftovers() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(unsentPrefix()));
  for (const name of names) {
    try {
      await deliver(JSON.parse(localStorage.getItem(name)));
    } catch (error) {
      notice(sentence(error.message));
    }
  }
}

async function choose(choice) {
  if (busy || !item) return;
  const answer = choice === "skip" ? { choice } : kind.answer(choice);
  if (typeof answer === "string") return notice(answer);
  const vote = { assignment: item.assignment, key: freshKey(), elapsed_ms: since(shownAt), ...answer };
  if (choice === "left" || choice === "right") {
    const strength = find("[data-strength][aria-pressed=true]");
    if (!strength && campaign.strength === "required") return notice(say("strength_first"));
    if (strength) vote.strength = Number(strength.dataset.strength);
  }
  const reason = find(".rl-reason").value.trim();
  if (reason) vote.reason = reason;
  await alone(() => send({ path: path("votes"), vote }));
}

async function send(unsent) {
  remember(localStorage, unsentPrefix() + unsent.vote.key, JSON.stringify(unsent));
  page.dataset.state = "sending";
  try {
    const data = await deliver(unsent);
    saved(say("saved", { number: data.saved }));
    show(data);
  } catch (error) {
    if (error.status !== 404 && error.status !== 409) throw error;
    await refresh(); // it is not to be answered here any more
    notice(sentence(error.message));
  }
}

async function undo(vote = null) {
  if (!campaign) return;
  await alone(async () => {
    const data = await call(path("undo"), { vote });
    saved(say("undone"));
    show(data);
    notice("");
  }, "nothing_undone");
}

async function refresh() {
  show(await insist(() => call(path("next"))));
}

function saved(text) {
  const place = find("[data-saved]");
  place.textContent = text;
  place.classList.remove("rl-flash");
  void place.offsetWidth; // restarts the animation
  place.classList.add("rl-flash");
}

function write(place, html, text) {
  place.classList.toggle("rl-exact", exact);
  if (exact) place.textContent = text;
  else place.innerHTML = html; // rendered and cleaned by the server
}

function paintTexts() {
  converse(find(".rl-talk"), item.messages, (text, message, index) => {
    write(text, item.html.messages[index], message.content);
  });
  all(".rl-pair [data-text]").forEach((text, place) => {
    write(text, item.html.responses[place], item.responses[place]);
  });
  letScroll();
}

// A paper for each response; of two that are compared, by its side.
function paintPapers() {
  const names = campaign.kind === "pairwise" ? ["left", "right"] : item.responses.map((_, i) => i + 1);
  const papers = names.map((name, index) => {
    const words = say("response_n", { number: index + 1 });
    const title = make("h2", { id: `rl-${name}-title`, textContent: words });
    const text = make("div", { className: "rl-text", dir: "auto" });
    text.dataset.text = name;
    const paper = make("article", { className: "rl-response" }, title, text);
    paper.setAttribute("aria-labelledby", title.id);
    return paper;
  });
  const held = page.contains(document.activeElement) && document.activeElement.dataset.own;
  find(".rl-pair").replaceChildren(...papers);
  find(".rl-pair").dataset.papers = papers.length;
  const place = find(".rl-own");
  place.replaceChildren();
  const submit = (choice) => choose(choice);
  kind = KINDS[campaign.kind](place, { papers, texts: item.responses, aspects: campaign.aspects, submit });
  const same = held && all("[data-own]").find((one) => one.dataset.own === held);
  if (same) same.focus({ preventScroll: true }); // the button that was pressed is gone
}

function paintRules() {
  const pair = campaign.kind === "pairwise";
  for (const part of all("[data-pair]")) part.hidden = !pair;
  for (const part of all("[data-do=tie], [data-do=both_bad]")) part.hidden = !pair || !campaign.ties;
  const strengths = find(".rl-strengths");
  strengths.hidden = !pair || campaign.strength === "no";
  strengths.setAttribute("aria-label", say(campaign.strength === "required" ? "how_much" : "how_much_optional"));
}

// What raters said, in places of this screen; folded, so that it can be judged without.
function paintSaid(said) {
  const place = find(".rl-heard");
  place.hidden = !said.length;
  place.open = false;
  place.querySelector("ul").replaceChildren(...said.map((one) => {
    const own = one.ranking.map((group) => group.map((i) => i + 1).join(" = ")).join("  >  ")
      || Object.entries(one.aspects).map(([name, mark]) => `${name} ${mark}`).join(", ") || say("said_" + one.choice);
    const strength = one.strength ? ` · ${say("strength_" + one.strength)}` : "";
    return make("li", {}, make("b", { dir: "auto", textContent: own + strength }), make("span", { dir: "auto", textContent: one.reason }));
  }));
}

function show({ item: next, progress, notice: why, said = [] }) {
  item = next;
  const { done, total } = progress;
  find(".rl-progress i").style.width = (total ? (100 * done) / total : 100) + "%";
  find(".rl-progress").setAttribute("aria-valuemax", total);
  find(".rl-progress").setAttribute("aria-valuenow", done);
  find("[data-count]").textContent = say("count", { done, total });
  find(".rl-wait").hidden = true;
  find(".rl-work").hidden = !item;
  find(".rl-done").hidden = !!item;
  for (const chip of all("[data-strength]")) chip.setAttribute("aria-pressed", "false");
  find(".rl-reason").value = "";
  for (const button of all("[data-do=undo]")) button.disabled = done === 0;
  page.dataset.state = item ? "ready" : "done";
  if (!item) {
    const rest = total - done;
    find("[data-done]").textContent = why ? sentence(why) : say(rest ? "done_rest" : "done_all", { done, rest });
    tell(say("all_done_live", { done }));
    return;
  }
  paintPapers();
  paintTexts();
  paintSaid(said);
  shownAt = performance.now();
  page.dataset.assignment = item.assignment;
  window.scrollTo(0, 0);
  tell(say("comparison_of", { number: done + 1, total }));
}

// Read out, after what was saved; the same words twice are read twice.
function tell(text) {
  const before = find("[data-saved]").textContent;
  find("[data-live]").textContent = before ? `${before}. ${text}` : text;
}

function setExact(on) {
  exact = on;
  find("[data-do=exact]").setAttribute("aria-pressed", String(on));
  if (item) paintTexts();
}

function toggleStrength(chip) {
  const on = chip.getAttribute("aria-pressed") !== "true";
  for (const other of all("[data-strength]")) other.setAttribute("aria-pressed", "false");
  chip.setAttribute("aria-pressed", String(on));
}

function toggleGuidelines() {
  const guidelines = find(".rl-guidelines");
  guidelines.open = !guidelines.open && !guidelines.hidden;
  if (guidelines.open) guidelines.querySelector("summary").focus();
}

async function flag(kind) {
  find(".rl-flags").close();
  try {
    await call(path("flags"), { assignment: item.assignment, kind });
    saved(say("flagged"));
    tell("");
  } catch (error) {
    notice(error.status ? sentence(error.message) : say("server_silent"));
  }
}

async function history() {
  const list = find(".rl-history .rl-past");
  try {
    const past = await call(path("history"));
    list.replaceChildren(...past.map((one) => {
      const change = make("button", { type: "button", className: "rl-side", textContent: say("revise") });
      change.onclick = () => { find(".rl-history").close(); undo(one.vote); };
      const text = make("span", { dir: "auto", textContent: one.prompt });
      return make("li", {}, text, make("b", { textContent: say("said_" + one.choice) }), change);
    }));
    if (!past.length) list.textContent = say("no_history");
    find(".rl-history").showModal();
  } catch (error) {
    notice(error.status ? sentence(error.message) : say("server_silent"));
  }
}

// While an item is on the screen its place is kept; a beat that is lost is followed by another.
setInterval(() => {
  if (item && !busy && !document.hidden) call(path("beat/" + item.assignment), {}).catch(() => {});
}, BEAT_MS);

const keysOf = (action) => KEYS[campaign.kind][action] || [];
const isOffered = (action) => Boolean(find(`[data-do=${action}]`).offsetParent);

function act(action) {
  if (ANSWERS.includes(action)) {
    if (isOffered(action)) choose(action);
  }
  else if (action.startsWith("strength")) {
    if (isOffered(action)) toggleStrength(find(`[data-do=${action}]`));
  }
  else if (action === "undo") undo();
  else if (action === "reason" && item) find(".rl-reason").focus();
  else if (action === "guidelines") toggleGuidelines();
  else if (action === "exact") setExact(!exact);
  else if (action === "help") find(".rl-help").showModal();
  else if (action === "close") for (const dialog of all("dialog[open]")) dialog.close();
  else if (action === "flag" && item) find(".rl-flags").showModal();
  else if (action.startsWith("flag_")) flag(action.slice(5));
  else if (action === "history" && campaign) history();
  else if (action === "again") alone(refresh);
}

page.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) act(button.dataset.do);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable=true]");
  if (event.key === "Escape" && typing) typing.blur();
  const entered = event.key === "Enter" && event.target.closest("button, summary, a");
  if (entered && event.repeat) event.preventDefault(); // held down it would answer the next item too
  if (typing || entered || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (find("dialog[open]")) return;
  const action = actionOf(event, KEYS[campaign ? campaign.kind : "pairwise"]);
  const own = item && kind.does[action || event.key];
  if (!own && !action) return;
  event.preventDefault();
  if (!own) act(action);
  else if (!busy) own();
});

window.addEventListener("resize", letScroll);

async function open(title) {
  const wanted = campaigns.find((one) => one.title === title) || campaigns[0];
  page.dataset.state = "loading"; // what is on the screen is still of the campaign before
  const data = await insist(() => call(path("next", wanted)));
  campaign = wanted;
  find("[data-campaign]").textContent = campaign.title;
  const guidelines = find(".rl-guidelines");
  guidelines.hidden = !campaign.guidelines;
  guidelines.querySelector("div").innerHTML = campaign.guidelines; // cleaned by the server
  remember(sessionStorage, "rlhf-campaign", campaign.title);
  paintRules();
  show(data);
}

// Each campaign, and once more where there is something in it for this adjudicator to decide.
const desks = (one) => {
  const rate = { ...one, desk: "rate", title: one.name };
  if (!one.contested) return [rate];
  return [rate, { ...one, desk: "adjudicate", title: say("adjudicate", { name: one.name }) }];
};

async function start() {
  await rlWords.ready;
  rlWords.fill(page);
  me = (await insist(() => call("/api/me"))).name;
  await deliverLeftovers();
  campaigns = (await insist(() => call("/api/campaigns?html=true"))).flatMap(desks);
  if (!campaigns.length) {
    find(".rl-wait").textContent = say("nothing_to_rate");
    page.dataset.state = "empty";
    return;
  }
  const pick = find(".rl-pick");
  pick.hidden = campaigns.length < 2;
  find("[data-campaign]").classList.toggle("rl-unseen", campaigns.length > 1);
  pick.replaceChildren(...campaigns.map((one) => new Option(one.title)));
  const change = async (title) => {
    await alone(() => open(title));
    if (campaign) pick.value = campaign.title; // also where that one was refused
  };
  pick.addEventListener("change", async () => {
    await change(pick.value);
    pick.blur();
  });
  const unfinished = campaigns.find((one) => one.progress.done < one.progress.total);
  busy = false;
  await change(sessionStorage.getItem("rlhf-campaign") || (unfinished || campaigns[0]).title);
}

start();
