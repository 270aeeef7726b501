// The words of this page in the language that was chosen, and the direction they run in.
window.rlWords = {
  texts: {},
  // The text called `key`; `{name}` in it becomes values.name.
  say(key, values = {}) {
    return this.texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  },
  // Put the words into everything below `root` that asks for them.
  fill(root) {
    root.lang = this.language;
    root.dir = this.direction; // Gradio sets another one around its parts
    for (const place of root.querySelectorAll("[data-t]")) {
      place.textContent = this.say(place.dataset.t);
    }
    for (const name of ["aria-label", "placeholder"]) {
      for (const place of root.querySelectorAll(`[data-t-${name}]`)) {
        place.setAttribute(name, this.say(place.getAttribute("data-t-" + name)));
      }
    }
  },
  // A menu of languages; the choice is kept in this browser.
  offer(menu) {
    menu.replaceChildren(...Object.entries(this.languages).map(
      ([code, name]) => new Option(name, code, false, code === this.language)));
    for (const option of menu.options) option.lang = option.value;
    menu.addEventListener("change", () => {
      document.cookie = `rlhf_label_language=${menu.value}; path=/; max-age=31536000; SameSite=Lax`
        + (location.protocol === "https:" ? "; Secure" : "");
      location.reload();
    });
  },
};
window.rlWords.ready = fetch("/api/words").then((answer) => answer.json()).then((data) => {
  Object.assign(window.rlWords, data);
  document.documentElement.lang = data.language;
  document.documentElement.dir = data.direction;
});
