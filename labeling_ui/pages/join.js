// The code stands behind the #, so that it is in no log of a server or proxy.
onSubmit(document.querySelector("form"), async (form) => {
  const code = location.hash.slice(1);
  if (!code) return say("no_code");
  await send("POST", "/api/join", { code, name: form.name.value, password: form.password.value });
  location.assign("/");
});
