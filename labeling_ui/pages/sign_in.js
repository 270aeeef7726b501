const form = document.querySelector("form");
const problem = document.querySelector(".rl-problem");

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
    const sentence = (await answer.json()).detail;
    problem.textContent = sentence.charAt(0).toUpperCase() + sentence.slice(1) + ".";
    form.password.select();
  } catch {
    problem.textContent = "The server does not answer. Try again in a moment.";
  }
  button.disabled = false;
});
