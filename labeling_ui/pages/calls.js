// How a page talks to the server and to its user. The script that follows says what `page` is, and
// `find` and `all` look for in it.
const say = (key, values) => rlWords.say(key, values);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function freshKey() {
  // randomUUID exists only on https and localhost.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// What a browser has no room for is done without.
function remember(storage, name, value) {
  try {
    storage.setItem(name, value);
  } catch (error) {
    if (error.name !== "QuotaExceededError") throw error;
  }
}

// Milliseconds since a `performance.now()`, which no clock that is set can change; a week at most.
const since = (start) => Math.min(Math.round(performance.now() - start), 7 * 24 * 3600 * 1000);

// The reply to a request, if it is a good one.
async function request(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    location.assign("/login?next=" + encodeURIComponent(location.pathname));
    await new Promise(() => {});
  }
  if (!answer.ok) {
    const wait = Number(answer.headers.get("Retry-After"));
    // a proxy's refusal may be a page
    const { detail } = await answer.json().catch(() => ({ detail: `${answer.status} ${answer.statusText}` }));
    throw Object.assign(new Error(detail), { status: answer.status, wait });
  }
  return answer;
}

const call = async (path, body) => (await request(path, body)).json();

// The lines of a reply as they come, each a JSON value.
async function* linesOf(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

// Until the server answers: it may be restarting, or the network away, or we asked too often.
async function insist(work) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    try {
      const data = await work();
      notice("");
      return data;
    } catch (error) {
      if (error.status && error.status < 500 && error.status !== 429) throw error;
      notice(error.wait ? say("too_fast", { seconds: error.wait }) : say("kept_here"));
      await sleep(error.wait ? error.wait * 1000 : wait);
    }
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + ".";

function notice(text) {
  const place = find(".rl-notice");
  place.hidden = !text;
  if (place.textContent !== text) place.textContent = text;
}

// The turns of a conversation; `fill` writes the text of a message into its place.
function converse(talk, messages, fill) {
  talk.replaceChildren(...messages.map((message, index) => {
    const turn = document.createElement("div");
    turn.className = "rl-turn rl-" + message.role;
    const who = document.createElement("span");
    who.className = "rl-who";
    who.textContent = say(message.role);
    const text = document.createElement("div");
    text.className = "rl-text";
    text.dir = "auto";
    fill(text, message, index);
    turn.append(who, text);
    return turn;
  }));
}

// What is wider than its place can be scrolled by keyboard.
function letScroll() {
  for (const place of all(".rl-text")) {
    if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
}

// What a key does, by its character; on a keyboard without Latin letters, by its place.
function actionOf(event, keymap) {
  const place = /^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code);
  const does = (key) => Object.keys(keymap).find((action) => keymap[action].includes(key.toLowerCase()));
  return does(event.key) || (place && !/[a-z]/i.test(event.key) && does(place[1]));
}

// Enter sends the form that a box is in; with Shift it is a new line.
function sendsOnEnter(box) {
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    box.form.requestSubmit();
  });
}
