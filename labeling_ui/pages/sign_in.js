onSubmit(document.querySelector("form"), async (form) => {
  try {
    await send("POST", "/api/login", { name: form.name.value, password: form.password.value });
  } finally {
    form.password.select();
  }
  // Only a path of this site: "//elsewhere" and "/\elsewhere" are not one.
  const next = new URLSearchParams(location.search).get("next") || "";
  location.assign(/^\/(rate|compare|admin|account|new)\/?$/.test(next) ? next : "/");
});
