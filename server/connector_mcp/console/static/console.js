// Keeps open pages up to date. Without it, everything works by reloading.
"use strict";

const announcement = document.getElementById("announcement");
const source = document.body.dataset.events;
let stream = null;
let known = null;

for (const time of document.querySelectorAll("time")) localize(time);

if (source) {
  connect();
  // A browser allows few connections to one host, so a hidden page closes its own.
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
  const answer = await fetch(location.pathname + location.search, { redirect: "error" }).catch(() => null);
  if (!answer) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (list) replaceList(list, page);
  // The page of one call is not replaced, as its form may be in use; it only shows a notice.
  if (stale) stale.hidden = page.getElementById("stale")?.dataset.status === stale.dataset.status;
}

function replaceList(list, page) {
  const fresh = page.querySelector("[data-live]");
  if (!fresh) return;
  const before = list.dataset.waiting;
  const focused = list.contains(document.activeElement) ? document.activeElement.id : null;
  for (const time of fresh.querySelectorAll("time")) localize(time);
  list.replaceWith(document.adoptNode(fresh));
  document.title = page.title;
  if (focused !== null) (document.getElementById(focused) ?? document.getElementById("content")).focus();
  if (before !== fresh.dataset.waiting) say(waiting(Number(fresh.dataset.waiting)));
}

function waiting(count) {
  if (count === 0) return "No calls are waiting.";
  return count === 1 ? "1 call is waiting for a decision." : `${count} calls are waiting for a decision.`;
}

function say(text) {
  announcement.textContent = text;
}

function localize(time) {
  const moment = new Date(time.dateTime);
  if (Number.isNaN(moment.getTime())) return;
  time.title = time.textContent;
  time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
