// Two policies that somebody chose answer side by side; nothing of it is kept.
const page = element.querySelector(".rl-chosen");
const find = (selector) => page.querySelector(selector);
const all = (selector) => [...page.querySelectorAll(selector)];
const box = find("textarea");
const menus = all("select");
const send = find("form button");

async function fill() {
  const { policies } = await insist(() => call("/api/policies"));
  menus.forEach((menu, place) => {
    const taken = menu.value || String(Math.min(place, policies.length - 1));
    menu.replaceChildren(...policies.map((name, number) => new Option(name, number)));
    menu.value = taken;
  });
}

function write(responses) {
  all(".rl-text").forEach((place, index) => {
    place.innerHTML = responses[index]; // rendered and cleaned by the server
  });
}

async function answer(prompt) {
  send.disabled = true;
  await ready; // who sends before the menus have come gets what they will show
  notice("");
  write(["", ""]);
  find(".rl-pair").setAttribute("aria-busy", "true");
  find("[data-live]").textContent = say("answering");
  let why = say("server_silent");
  try {
    const [left, right] = menus.map((menu) => Number(menu.value));
    for await (const line of linesOf(await request("/api/policies", { prompt, left, right }))) {
      if (line.responses) write(line.responses);
      why = line.detail ? sentence(line.detail) : "";
    }
  } catch (error) {
    if (error.status) why = sentence(error.message);
  }
  send.disabled = false;
  find(".rl-pair").removeAttribute("aria-busy");
  find("[data-live]").textContent = why ? "" : say("answered");
  notice(why);
  letScroll();
}

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!box.value.trim()) box.focus();
  else if (!send.disabled) answer(box.value);
});

sendsOnEnter(box);
window.addEventListener("resize", letScroll);

async function start() {
  await rlWords.ready;
  rlWords.fill(element);
  await fill();
}

const ready = start();
