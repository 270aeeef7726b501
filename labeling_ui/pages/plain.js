// What the plain pages share.
const texts = JSON.parse(document.body.dataset.texts);
const say = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);

async function send(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const data = await answer.json();
  if (answer.ok) return data;
  const sentence = data.detail.charAt(0).toUpperCase() + data.detail.slice(1) + ".";
  const wait = answer.headers.get("Retry-After");
  throw Object.assign(new Error(sentence), { status: answer.status, wait });
}

// Run `work` when the form is sent; what goes wrong is told in the form.
function onSubmit(form, work) {
  const problem = form.querySelector(".rl-problem");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      problem.textContent = (await work(form)) || "";
    } catch (error) {
      if (error.status === 401 && texts.wrong_password) problem.textContent = say("wrong_password");
      else if (error.wait) problem.textContent = say("too_many_tries", { seconds: error.wait });
      else problem.textContent = error.status ? error.message : say("server_silent");
    }
    button.disabled = false;
  });
}

const menu = document.querySelector(".rl-language");
if (menu) menu.addEventListener("change", () => {
  document.cookie = `rlhf_label_language=${menu.value}; path=/; max-age=31536000; SameSite=Lax`
    + (location.protocol === "https:" ? "; Secure" : "");
  location.reload();
});
