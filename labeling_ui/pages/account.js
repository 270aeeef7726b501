const part = (name) => document.querySelector(`[data-part=${name}]`);
const when = (iso) => new Date(iso).toLocaleString(document.documentElement.lang);

document.querySelector("[data-out]").addEventListener("click", async () => {
  await send("POST", "/api/logout");
  location.assign("/login");
});

onSubmit(part("password"), async (form) => {
  const body = { old: form.old_password.value, new: form.new_password.value };
  await send("POST", "/api/password", body);
  form.reset();
  return say("password_changed");
});

// A list of things with a button each that ends them.
async function list(name, describe, verb) {
  const rows = await send("GET", "/api/" + name);
  const place = part(name).querySelector("[data-list]");
  place.replaceChildren(...rows.map((row) => {
    const item = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = describe(row);
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "rl-side", textContent: say(verb) });
    button.setAttribute("aria-label", `${say(verb)}: ${describe(row)}`);
    button.addEventListener("click", async () => {
      await send("DELETE", `/api/${name}/${row.id}`);
      await list(name, describe, verb);
      part(name).querySelector("[type=submit]").focus();
    });
    item.append(text, button);
    return item;
  }));
  if (!rows.length) {
    place.append(document.createElement("li"));
    place.firstChild.textContent = say("none_yet");
  }
}

const listTokens = () => list(
  "tokens", (row) => say("token_of", { number: row.id, when: when(row.created_at) }), "revoke");
const listInvitations = () => list("invitations", (row) => say(
  "invitation_of", { role: say(row.role), uses: row.uses_left, when: when(row.expires_at) },
), "withdraw");

onSubmit(part("tokens"), async (form) => {
  form.querySelector(".rl-once").textContent = (await send("POST", "/api/tokens")).token;
  await listTokens();
  return say("copy_now");
});
listTokens();

if (part("invitations")) {
  onSubmit(part("invitations"), async (form) => {
    const body = {
      role: form.role.value, uses: Number(form.uses.value), days: Number(form.days.value),
    };
    const { link } = await send("POST", "/api/invitations", body);
    form.querySelector(".rl-once").textContent = location.origin + link;
    await listInvitations();
    return say("copy_now");
  });
  listInvitations();
  send("GET", "/api/audit").then((entries) => {
    part("log").querySelector("ol").replaceChildren(...entries.map((entry) => {
      const item = document.createElement("li");
      const [at, who] = [when(entry.at), entry.user || "command line"].map((text) => {
        const part = document.createElement("bdi");
        part.textContent = text;
        return part;
      });
      item.append(at, " ", who, ` ${entry.action} ${JSON.stringify(entry.detail)}`);
      return item;
    }));
  });
}
