// Making a campaign. A file is read here and sent in one request: all of it is taken, or nothing.
const form = document.querySelector("[data-part=new]");
const at = (id) => document.getElementById(id);
const MOST = 60 << 20; // bytes; the server takes a little more

for (const choice of form.querySelectorAll("[name=source]")) {
  choice.addEventListener("change", () => {
    for (const part of form.querySelectorAll("[data-source]")) part.hidden = part.dataset.source !== form.source.value;
  });
}

function settings() {
  const names = at("aspects").value.split(",").map((name) => name.trim()).filter(Boolean);
  return {
    kind: at("task_kind").value, overlap: Number(at("overlap").value), skip: at("skips").value,
    ties: at("ties").checked, aspects: names,
  };
}

async function rows() {
  const [file] = at("file").files;
  if (!file) throw Object.assign(new Error(say("file_first")), { status: 422 });
  if (file.size > MOST) throw Object.assign(new Error(say("file_too_big")), { status: 422 });
  const text = await file.text();
  if (text.trimStart().startsWith("[")) return parsed(text, 1);
  return text.split("\n").map((line, index) => line.trim() && parsed(line, index + 1)).filter(Boolean);
}

function parsed(text, line) {
  try {
    return JSON.parse(text);
  } catch {
    throw Object.assign(new Error(say("line_unreadable", { line })), { status: 422 });
  }
}

function made(name, sentence) {
  const problem = form.querySelector(".rl-problem");
  const link = document.createElement("a");
  Object.assign(link, { href: "/admin/?campaign=" + encodeURIComponent(name), textContent: name });
  problem.replaceChildren(sentence + " ", link);
}

// Answers come in by and by; raters can begin with the first.
async function follow(name) {
  const { draft } = await send("GET", "/api/drafts");
  const told = { done: draft.answered, total: draft.prompts };
  if (draft.problem) return made(name, say("campaign_stopped", { ...told, reason: draft.problem }));
  made(name, say("campaign_going", told));
  if (draft.going) setTimeout(() => follow(name).catch(() => setTimeout(() => follow(name), 2000)), 1000);
  else made(name, say("campaign_made", { added: draft.answered }));
}

onSubmit(form, async () => {
  const name = at("campaign_name").value.trim();
  const body = { name, guidelines: at("guidelines").value, settings: settings() };
  if (form.source.value === "file") {
    const { added } = await send("POST", "/api/campaigns", { ...body, comparisons: await rows() });
    setTimeout(() => made(name, say("campaign_made", { added })));
  } else {
    const prompts = at("prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const policies = [...form.querySelectorAll("[name=policy]:checked")].map((box) => Number(box.value));
    await send("POST", "/api/drafts", { ...body, prompts, policies });
    setTimeout(() => follow(name));
  }
});
