// The mail that was kept, live. What came from outside goes in as text, never as markup; the HTML of a message is shown in a
// frame that runs and loads nothing.
"use strict";

const at = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const PAGE = 50; // as many messages as the server lists unless it is asked for more
const MOST = 500; // as many as it lists at all
const SOURCE = 256 * 1024; // how much of a source is shown

let rows = []; // the messages that are listed
let total = 0;
let chosen = null; // the id of the one that the keyboard is at
let opened = null; // the id of the one that is shown
let keeps = true; // whether the server keeps messages at all
let view = "html"; // the part of a message that was looked at last
let request = 0; // the number of the last list that was asked for
let refreshing = null; // a list that is on its way because of an event
let isStale = false; // whether something has changed since it was asked for

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["kB", "MB", "GB"];
  let value = bytes / 1000;
  while (value >= 999.5 && units.length > 1) {
    value /= 1000;
    units.shift();
  }
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[0]}`;
}

function when(received) {
  const time = new Date(received);
  const now = new Date();
  if (time.toDateString() === now.toDateString()) return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const year = time.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return time.toLocaleDateString([], { day: "numeric", month: "short", year });
}

async function ask(path, options) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(30000), ...options });
  if (!answer.ok) throw new Error(answer.status);
  return answer;
}

function say(text, className) {
  at("state").textContent = text;
  at("state").className = className;
}

// ---- the list ----

const query = (more) => "api/messages?" + new URLSearchParams({ search: at("search").value, ...more });

async function refresh() {
  const asked = ++request;
  const limit = Math.min(MOST, Math.max(PAGE, rows.length));
  const list = await (await ask(query({ limit }))).json();
  if (asked === request) show(list, list.messages);
}

async function older() {
  const asked = ++request;
  const last = rows.at(-1);
  const list = await (await ask(query({ limit: PAGE, before: last.id }))).json();
  if (asked === request) show(list, rows.concat(list.messages));
}

function show(list, messages) {
  const place = rows.findIndex((row) => row.id === chosen);
  rows = messages;
  total = list.total;
  // What was chosen may be gone: then it is the one in its place.
  if (chosen && !rows.some((row) => row.id === chosen)) {
    chosen = rows[Math.min(place, rows.length - 1)]?.id ?? null;
  }
  at("messages").replaceChildren(...rows.map(item));
  at("older").hidden = !list.next;
  at("delete-all").disabled = total === 0;
  at("empty").hidden = rows.length > 0;
  at("empty").textContent = at("search").value
    ? "No message has these words."
    : "No mail yet. What is sent to this server appears here.";
  document.title = total ? `smtpd (${number(total)})` : "smtpd";
  choose(chosen);
}

function item(row) {
  const made = element("li");
  made.id = `message-${row.id}`;
  made.dataset.id = row.id;
  made.role = "option";
  const time = element("span", when(row.received), "when");
  time.title = new Date(row.received).toLocaleString();
  const files = row.attachments ? ` · ${row.attachments} attached` : "";
  made.append(
    element("span", row.from || "(nobody)", "from"),
    time,
    element("span", row.subject || "(no subject)", "subject"),
    element("span", row.preview + files, "preview"),
  );
  return made;
}

function choose(id) {
  chosen = id;
  for (const made of at("messages").children) made.ariaSelected = String(made.dataset.id === id);
  const made = id && at(`message-${id}`);
  if (made) {
    at("messages").setAttribute("aria-activedescendant", made.id);
    made.scrollIntoView({ block: "nearest" });
  } else {
    at("messages").removeAttribute("aria-activedescendant");
  }
}

function move(by) {
  if (!rows.length) return;
  const place = rows.findIndex((row) => row.id === chosen);
  const next = place < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, place + by));
  choose(rows[next].id);
  if (opened && matchMedia("(min-width: 48.01rem)").matches) open(chosen);
}

// ---- one message ----

async function open(id) {
  if (!id) return;
  choose(id);
  opened = id;
  let message;
  try {
    message = await (await ask(`api/messages/${id}`)).json();
  } catch {
    if (opened === id) close();
    return refresh();
  }
  if (opened !== id) return; // another one was opened meanwhile
  at("subject").textContent = message.subject || "(no subject)";
  const envelope = {
    From: message.from,
    To: message.to.join(", "),
    Date: message.date && new Date(message.date).toLocaleString(),
    Size: size(message.size) + (message.cut ? ", not shown in full" : ""),
  };
  at("envelope").replaceChildren(
    ...Object.entries(envelope).filter(([, value]) => value).flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
  );
  at("view-text").textContent = message.text || "(no text)";
  at("view-headers").querySelector("tbody").replaceChildren(
    ...message.headers.map(([name, value]) => {
      const row = element("tr");
      const head = element("th", name);
      head.scope = "row";
      row.append(head, element("td", value));
      return row;
    }),
  );
  const files = message.parts.filter((part) => part.attachment);
  at("view-files").replaceChildren(...files.map((part) => file(id, part)));
  at("tab-files").textContent = `Attachments (${files.length})`;
  at("tab-files").hidden = files.length === 0;
  at("tab-html").hidden = message.html === null;
  at("view-html").replaceChildren();
  at("view-source").querySelector("pre").textContent = "";
  at("download").href = `api/messages/${id}/raw`;
  at("message").hidden = false;
  at("none").hidden = true;
  at("mail").classList.add("open");
  const wanted = at(`tab-${view}`).hidden ? "html" : view;
  tab(at(`tab-${wanted}`).hidden ? "text" : wanted);
}

function file(id, part) {
  const made = element("li");
  const link = element("a", part.name || `part ${part.index}`);
  link.href = `api/messages/${id}/parts/${part.index}`;
  link.download = "";
  made.append(link, " ", element("span", `${part.type}, ${size(part.size)}`));
  return made;
}

function close() {
  opened = null;
  at("view-html").replaceChildren();
  at("message").hidden = true;
  at("none").hidden = false;
  at("mail").classList.remove("open");
  at("messages").focus();
}

function tab(name) {
  for (const made of document.querySelectorAll("[role=tab]")) {
    const chosenTab = made.id === `tab-${name}`;
    made.ariaSelected = String(chosenTab);
    made.tabIndex = chosenTab ? 0 : -1;
    at(made.getAttribute("aria-controls")).hidden = !chosenTab;
  }
  if (name === "html" && !at("view-html").firstChild) at("view-html").append(frame(opened));
  if (name === "source") source(opened);
}

// The user wants to look at this part, of the next message too.
function look(made) {
  view = made.id.slice("tab-".length);
  tab(view);
}

function frame(id) {
  const made = element("iframe");
  made.title = "HTML of the message";
  made.sandbox = "allow-popups allow-popups-to-escape-sandbox";
  made.src = `api/messages/${id}/html`;
  return made;
}

async function source(id) {
  const reader = (await ask(`api/messages/${id}/raw`)).body.getReader();
  const pieces = [];
  let length = 0;
  let end = false;
  while (!end && length < SOURCE) {
    const { done, value } = await reader.read();
    end = done;
    if (value) {
      pieces.push(value);
      length += value.length;
    }
  }
  if (!end) await reader.cancel();
  if (opened !== id) return;
  at("view-source").querySelector("pre").textContent = await new Blob(pieces).text();
  at("source-cut").textContent = end ? "" : `– the first ${size(length)} are shown`;
}

function notDeleted(error) {
  // Somebody else was faster.
  if (error.message !== "404") say("not deleted", "lost");
}

async function remove(id) {
  if (!id) return;
  const wasOpen = opened === id;
  await ask(`api/messages/${id}`, { method: "DELETE" }).catch(notDeleted);
  if (wasOpen) close();
  await refresh();
}

function removeAll() {
  at("question").textContent = total === 1 ? "Delete the message?" : `Delete all ${number(total)} messages?`;
  at("sure").returnValue = "keep";
  at("sure").showModal();
}

// ---- the channels ----

const FIGURES = { accepted: "messages", sessions: "sessions", open: "channels", turns: "turns", events: "events", queued: "bytes queued" };
let timer = 0;

async function channels() {
  clearTimeout(timer);
  if (at("channels").hidden) return;
  try {
    const [status, map] = await Promise.all(["api/status", "api/channels"].map(async (path) => (await ask(path)).json()));
    const figures = { ...map, ...status };
    at("figures").replaceChildren(
      ...Object.entries(FIGURES).map(([key, name]) => {
        const made = element("div");
        made.append(element("dt", name), element("dd", number(figures[key])));
        return made;
      }),
    );
    at("channels").querySelector("tbody").replaceChildren(
      ...map.channels.map((channel) => {
        const row = element("tr");
        for (const key of ["id", "kind", "address", "state"]) row.append(element("td", channel[key] ?? ""));
        for (const key of ["messages", "bytes_in", "bytes_out", "queued"]) {
          row.append(element("td", number(channel[key]), "number"));
        }
        return row;
      }),
    );
    const more = map.open - map.channels.length;
    at("more").textContent = more > 0 ? `and ${number(more)} more` : "";
  } catch {
    // The state above says that there is no answer.
  }
  timer = setTimeout(channels, 1000);
}

function showChannels(shown) {
  at("channels").hidden = !shown;
  at("mail").hidden = shown;
  at("show-channels").ariaPressed = String(shown);
  channels();
}

// ---- what the user does ----

const KEYS = {
  j: () => move(1),
  ArrowDown: () => move(1),
  k: () => move(-1),
  ArrowUp: () => move(-1),
  Home: () => move(-rows.length),
  End: () => move(rows.length),
  Delete: () => remove(chosen),
  "/": () => at("search").focus(),
  c: () => showChannels(at("channels").hidden),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("sure").open) return;
  const inSearch = event.target === at("search");
  if (event.key === "Escape") {
    if (inSearch && at("search").value) {
      at("search").value = "";
      refresh();
    } else if (keeps && !at("channels").hidden) showChannels(false);
    else if (opened) close();
    at("messages").focus();
    return event.preventDefault();
  }
  if (inSearch) {
    if (event.key !== "ArrowDown" && event.key !== "Enter") return;
    at("messages").focus();
    if (!chosen) move(1);
    return event.preventDefault();
  }
  if (event.target.role === "tab" && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
    const tabs = [...document.querySelectorAll("[role=tab]:not([hidden])")];
    const by = event.key === "ArrowRight" ? 1 : -1;
    const next = tabs[(tabs.indexOf(event.target) + by + tabs.length) % tabs.length];
    look(next);
    next.focus();
    return event.preventDefault();
  }
  if (event.key === "Enter" && event.target === at("messages")) {
    open(chosen).then(() => at("subject").focus());
    return event.preventDefault();
  }
  // Where something is scrolled, the arrows scroll it.
  const scrolls = event.target.closest("[role=tabpanel], .scroll");
  if (scrolls && (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End")) return;
  const key = KEYS[event.key];
  if (key && (keeps || event.key === "c")) {
    key();
    event.preventDefault();
  }
});

at("messages").addEventListener("click", (event) => open(event.target.closest("li")?.dataset.id));
at("older").addEventListener("click", older);
at("back").addEventListener("click", close);
at("delete").addEventListener("click", () => remove(opened));
at("delete-all").addEventListener("click", removeAll);
at("show-channels").addEventListener("click", () => showChannels(at("channels").hidden));
at("sure").addEventListener("close", async () => {
  if (at("sure").returnValue !== "delete") return;
  await ask("api/messages", { method: "DELETE" }).catch(notDeleted);
  if (opened) close();
  await refresh();
});
for (const made of document.querySelectorAll("[role=tab]")) {
  made.addEventListener("click", () => look(made));
}

let typing = 0;
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(refresh, 200);
});

// ---- what the server tells ----

async function begin() {
  const status = await (await ask("api/status")).json();
  keeps = status.keeps;
  for (const id of ["search", "delete-all", "show-channels"]) at(id).hidden = !keeps;
  at("destination").hidden = keeps;
  at("destination").textContent = `Messages go to: ${status.delivery}. None is kept here to be shown.`;
  if (keeps) await refresh();
  else showChannels(true);
}

const events = new EventSource("api/events");
events.addEventListener("open", async () => {
  try {
    await begin();
    say("live", "live");
  } catch {
    say("no answer", "lost");
  }
});
events.addEventListener("error", () => say("no answer", "lost"));
events.addEventListener("messages", async (event) => {
  const { deleted } = JSON.parse(event.data);
  if (deleted.includes(opened)) close();
  // One list at a time, however fast the mail comes.
  isStale = true;
  refreshing ??= catchUp().finally(() => (refreshing = null));
});

async function catchUp() {
  while (isStale) {
    isStale = false;
    await refresh().catch(() => {});
  }
}
