// The words of the bar, who is signed in, the admin's link for admins, the way out.
(async () => {
  const [me] = await Promise.all([fetch("/api/me"), rlWords.ready]);
  rlWords.fill(element);
  rlWords.offer(element.querySelector(".rl-language"));
  if (me.status === 401) {
    location.assign("/login?next=" + encodeURIComponent(location.pathname));
    return;
  }
  const account = await me.json();
  element.querySelector("[data-me]").textContent = account.name;
  for (const link of element.querySelectorAll("[data-needs]")) {
    link.hidden = link.dataset.needs === "admin" ? account.role !== "admin" : account.role === "guest";
  }
  element.querySelector("[data-out]").addEventListener("click", async () => {
    await fetch("/api/logout", { method: "POST" });
    location.assign("/login");
  });
})();
