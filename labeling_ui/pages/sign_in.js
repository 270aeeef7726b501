const form = document.querySelector("form");
const problem = document.querySelector(".rl-problem");
const texts = JSON.parse(form.dataset.texts);

async function reason(answer) {
  if (answer.status === 401) return texts.wrong_password;
  const wait = answer.headers.get("Retry-After");
  if (wait) return texts.too_many_tries.replace("{seconds}", wait);
  const sentence = (await answer.json()).detail;
  return sentence.charAt(0).toUpperCase() + sentence.slice(1) + ".";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name: form.name.value, password: form.password.value }),
    });
    if (answer.ok) {
      // Only a path of this site: "//elsewhere" and "/\elsewhere" are not one.
      const next = new URLSearchParams(location.search).get("next") || "";
      location.assign(/^\/(rate|compare|admin)\/?$/.test(next) ? next : "/rate/");
      return;
    }
    problem.textContent = await reason(answer);
    form.password.select();
  } catch {
    problem.textContent = texts.server_silent;
  }
  button.disabled = false;
});

form.querySelector(".rl-language").addEventListener("change", (event) => {
  document.cookie = `rlhf_label_language=${event.target.value}; path=/; max-age=31536000; SameSite=Lax`
    + (location.protocol === "https:" ? "; Secure" : "");
  location.reload();
});
