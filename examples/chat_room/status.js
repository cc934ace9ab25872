// Asks for the figures once a second and shows them. What came from outside goes in as text, never as markup.
"use strict";

const at = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const NUMBERS = ["loops", "members", "open", "queued", "messages", "pushes", "turns", "events", "accepted"];
const TEXTS = ["loop", "id", "kind", "name", "address", "state"];

function duration(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function cell(row, text, className) {
  const cell = row.insertCell();
  cell.textContent = text;
  if (className) cell.className = className;
}

function show(figures) {
  at("uptime").textContent = duration(figures.uptime);
  for (const id of NUMBERS) at(id).textContent = number(figures[id]);

  const body = document.createElement("tbody");
  body.id = "channels";
  for (const channel of figures.channels) {
    const row = body.insertRow();
    for (const key of TEXTS) cell(row, channel[key]);
    cell(row, number(channel.messages), "number");
    cell(row, number(channel.in), "number");
    cell(row, number(channel.out), "number");
    cell(row, number(channel.queued), channel.queued ? "number waiting" : "number");
  }
  at("channels").replaceWith(body);
  document.querySelector("table").classList.toggle("single", figures.loops < 2);
  const more = figures.open - figures.channels.length;
  at("more").textContent = more > 0 ? `and ${number(more)} more` : "";
}

function say(text, className) {
  at("state").textContent = text;
  at("state").className = className;
}

async function refresh() {
  try {
    const answer = await fetch("status.json", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.json());
    say("live", "live");
  } catch {
    say("no answer", "lost");
  }
  setTimeout(refresh, 1000);
}

refresh();
