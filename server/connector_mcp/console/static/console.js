// Keeps open pages up to date, and says when it cannot. Without it, everything works by reloading.
"use strict";

const announcement = document.getElementById("announcement");
const banner = document.getElementById("banner");
const source = document.body.dataset.events;
const SECONDS_PER_MINUTE = 60;
let stream = null;
let known = null;
let retry = 0;

for (const time of document.querySelectorAll("time")) localize(time);
setInterval(() => document.querySelectorAll("time[data-relative]").forEach(relate), 30_000);
prepareSelection();
refreshAtExpiry();

if (source) {
  connect();
  // A browser allows few connections to one host, so a hidden page closes its own.
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  // A page that the browser kept may be about a session that has ended since.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

function connect() {
  if (stream || document.hidden) return;
  clearTimeout(retry);
  stream = new EventSource(source);
  stream.addEventListener("open", () => show(null));
  stream.addEventListener("queue", (event) => {
    count(Number(event.data));
    if (known !== event.lastEventId) update();
    known = event.lastEventId;
  });
  stream.addEventListener("ended", sessionEnded);
  stream.addEventListener("error", reconnect);
}

function disconnect() {
  clearTimeout(retry);
  stream?.close();
  stream = null;
}

async function reconnect() {
  disconnect();
  // Leaving the page also ends the stream, and takes a moment.
  retry = setTimeout(connect, 3_000);
  const answer = await fetch(source, { method: "HEAD", redirect: "error" }).catch(() => null);
  if (answer?.status === 403) sessionEnded();
  else if (!answer?.ok) show("The server does not answer. This page may be out of date; trying again.");
}

function sessionEnded() {
  disconnect();
  show("Your session has ended. Nothing on this page can be decided.", true);
}

// The banner says why nothing can be decided now; null takes it away.
function show(text, signIn = false) {
  const wasShown = !banner.hidden;
  banner.hidden = text === null;
  banner.firstElementChild.textContent = text ?? "";
  banner.querySelector("a").hidden = !signIn;
  for (const button of document.querySelectorAll("form[method=post] button")) button.disabled = text !== null;
  if (wasShown && text === null) update();
}

function count(waiting) {
  const shown = waiting > 99 ? "99+" : String(waiting);
  const badge = document.getElementById("waiting");
  const before = badge.hidden ? "0" : badge.textContent;
  badge.textContent = shown;
  badge.hidden = waiting === 0;
  document.title = (waiting ? `(${shown}) ` : "") + document.title.replace(/^\(\d+\+?\) /, "");
  if (before !== shown) say(waiting === 1 ? "1 call is waiting for a decision." : `${waiting || "No"} calls are waiting${waiting ? " for a decision" : ""}.`);
}

// Read the page again, and put in place what has changed: the list of calls, or the decision about one.
async function update() {
  const list = document.querySelector("[data-live]");
  const decision = document.getElementById("decision");
  if (!list && !decision) return;
  const answer = await fetch(document.querySelector("[data-live]") ? location.href : decisionAddress(), { redirect: "manual" }).catch(() => null);
  if (!answer) return;
  if (answer.type === "opaqueredirect") return sessionEnded();
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const time of page.querySelectorAll("time")) localize(time);
  if (list) replaceList(list, page);
  if (decision) replaceDecision(decision, page);
}

// After a form was refused, the address is that of the form.
function decisionAddress() {
  return location.pathname.replace(/\/(approve|deny)$/, "");
}

function replaceList(list, page) {
  const fresh = page.querySelector("[data-live]");
  if (!fresh) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.id : null;
  const selected = [...list.querySelectorAll(".pick input:checked")].map((box) => box.id);
  const reason = list.querySelector("#bulk-reason")?.value;
  list.replaceWith(document.adoptNode(fresh));
  for (const box of selected.map((id) => document.getElementById(id))) if (box) box.checked = true;
  if (reason && fresh.querySelector("#bulk-reason")) fresh.querySelector("#bulk-reason").value = reason;
  prepareSelection();
  if (focused !== null) (document.getElementById(focused) ?? document.getElementById("content")).focus();
}

// The form may be in use, so it is only replaced once the call can no longer be decided.
function replaceDecision(decision, page) {
  const fresh = page.getElementById("decision") ?? page.getElementById("problem");
  if (!fresh || fresh.dataset.status === decision.dataset.status) return;
  const hadFocus = decision.contains(document.activeElement);
  if (fresh.id === "problem") {
    const notice = document.createElement("p");
    notice.className = "notice notice-wrong";
    notice.textContent = fresh.querySelector("p:not(.brand)").textContent;
    decision.querySelector(".choices").replaceChildren(notice);
    decision.dataset.status = "";
  } else {
    decision.replaceWith(document.adoptNode(fresh));
  }
  const now = document.getElementById("decision");
  if (hadFocus) now.focus();
  say(now.querySelector(".notice")?.textContent.trim() ?? "");
}

function refreshAtExpiry() {
  const expires = document.querySelector("#decision[data-expires]")?.dataset.expires;
  const rest = Date.parse(expires ?? "") - Date.now() + 1_000;
  // A longer timer would overflow and fire at once.
  if (rest < 2 ** 31) setTimeout(update, Math.max(rest, 0));
}

// Check boxes that select several calls; without a script each call has its own.
function prepareSelection() {
  const form = document.querySelector(".selection");
  if (!form) return;
  for (const all of form.querySelectorAll(".select-all")) {
    all.hidden = false;
    all.querySelector("input").addEventListener("change", (event) => {
      for (const box of all.parentElement.querySelectorAll(".pick input")) box.checked = event.target.checked;
      showSelected(form);
    });
  }
  form.addEventListener("change", () => showSelected(form));
  showSelected(form);
}

function showSelected(form) {
  const selected = form.querySelectorAll(".pick input:checked").length;
  form.querySelector("#selected").textContent = selected ? ` (${selected})` : "";
  for (const all of form.querySelectorAll(".select-all")) {
    const boxes = [...all.parentElement.querySelectorAll(".pick input")];
    all.querySelector("input").checked = boxes.every((box) => box.checked);
    all.querySelector("input").indeterminate = boxes.some((box) => box.checked) && !boxes.every((box) => box.checked);
  }
}

function say(text) {
  announcement.textContent = text;
}

function localize(time) {
  const moment = new Date(time.dateTime);
  if (time.dataset.relative !== undefined || Number.isNaN(moment.getTime())) return;
  time.title = time.textContent;
  const parts = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
  time.textContent = moment.toLocaleString(undefined, parts);
}

function relate(time) {
  const seconds = (Date.parse(time.dateTime) - Date.now()) / 1_000;
  if (seconds > 0) time.textContent = `in ${duration(seconds)}`;
  else time.textContent = seconds > -SECONDS_PER_MINUTE ? "just now" : `${duration(-seconds)} ago`;
}

// About how long, in the two largest units, as the server writes it.
function duration(seconds) {
  const minutes = Math.floor(seconds / SECONDS_PER_MINUTE);
  if (minutes < 1) return "less than a minute";
  const parts = [[Math.floor(minutes / 1_440), "d"], [Math.floor((minutes % 1_440) / 60), "h"], [minutes % 60, "min"]];
  return parts.filter(([value]) => value).slice(0, 2).map(([value, unit]) => `${value} ${unit}`).join(" ");
}
