// Keeps open pages up to date. Everything works without it; there is then a link to reload.
"use strict";

const announcement = document.getElementById("announcement");
const source = document.body.dataset.events;
let stream = null;
let known = null;

for (const time of document.querySelectorAll("time")) localise(time);

if (source) {
  connect();
  // A browser allows few connections to one host: a page that nobody looks at gives its own up.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
}

function connect() {
  if (stream) return;
  stream = new EventSource(source);
  stream.addEventListener("queue", (event) => {
    const changed = known !== null ? known !== event.lastEventId : true;
    known = event.lastEventId;
    if (changed) update();
  });
  stream.addEventListener("ended", () => {
    disconnect();
    say("You are signed out. Reload the page to sign in again.");
  });
}

function disconnect() {
  stream?.close();
  stream = null;
}

async function update() {
  const list = document.querySelector("[data-live]");
  const stale = document.getElementById("stale");
  if (!list && !stale) return;
  const answer = await fetch(location.pathname, { redirect: "error" }).catch(() => null);
  if (!answer) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (list) replaceList(list, page);
  // What is being typed is not taken away: a page of one call only says that it has been overtaken.
  if (stale) stale.hidden = page.getElementById("stale")?.dataset.status === stale.dataset.status;
}

function replaceList(list, page) {
  const fresh = page.querySelector("[data-live]");
  if (!fresh) return;
  const before = list.dataset.waiting;
  const focused = list.contains(document.activeElement) ? document.activeElement.id : null;
  for (const time of fresh.querySelectorAll("time")) localise(time);
  list.replaceWith(document.adoptNode(fresh));
  document.title = page.title;
  if (focused !== null) (document.getElementById(focused) ?? document.getElementById("content")).focus();
  if (before !== fresh.dataset.waiting) say(waiting(Number(fresh.dataset.waiting)));
}

function waiting(count) {
  if (count === 0) return "Nothing waits any more.";
  return count === 1 ? "1 call waits for a decision." : `${count} calls wait for a decision.`;
}

function say(text) {
  announcement.textContent = text;
}

function localise(time) {
  const moment = new Date(time.dateTime);
  if (Number.isNaN(moment.getTime())) return;
  time.title = time.textContent;
  time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
