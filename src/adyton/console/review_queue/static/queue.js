// Sends what a button or form says, once, and shows a refusal in the words of the server.
//
// data-send="METHOD /address"   data-follow: home, next, ad (the one claimed), it (the one answered), stay; else reload
// data-ask: asks first   data-as on a field: integer, micros, list, flag, time   a dot in a field's name: an object inside
"use strict";

function tell(place, text) {
  for (const one of ["refusal", "answer"]) document.getElementById(one).hidden = one !== place;
  document.getElementById(place).textContent = text;
}

function refuse(refusal) {
  tell("refusal", refusal.hint ? `${refusal.what} (${refusal.hint})` : refusal.what);
}

const names = (text) => text.split(",").map((name) => name.trim()).filter(Boolean);

function valueOf(field) {
  switch (field.dataset.as) {
    case "flag": return field.checked;
    case "integer": return Number(field.value);
    case "micros": return Math.round(Number(field.value) * 1e6);
    case "list": return names(field.value);
    case "time": return Date.parse(`${field.value}Z`);
    default: return field.value;
  }
}

function fields(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || (field.value === "" && field.dataset.as !== "list")) continue;
    const path = field.name.split(".");
    const last = path.pop();
    let place = body;
    for (const part of path) place = place[part] ??= {};
    place[last] = valueOf(field);
  }
  return body;
}

function finding(fieldset) {
  const field = (name) => fieldset.querySelector(`[name=${name}]`);
  const found = {
    label: fieldset.dataset.label,
    version: Number(fieldset.dataset.version),
    verdict: field("verdict").value,
    evidence: field("evidence").value,
  };
  if (found.verdict === "limited") {
    found.not_in_countries = names(field("not_in_countries").value);
    found.not_in_placements = names(field("not_in_placements").value);
    if (field("min_age").value) found.min_age = Number(field("min_age").value);
  }
  return found;
}

const chosen = (form) => [...form.querySelectorAll(".finding")].filter((one) => one.querySelector("[name=found]").checked);

function decision(form) {
  return { note: form.elements.note.value, findings: chosen(form).map(finding) };
}

// Opens what belongs to a chosen policy, and lets the button say what it is going to do.
function follow(form) {
  const verdicts = new Set();
  for (const one of form.querySelectorAll(".finding")) {
    const isFound = one.querySelector("[name=found]").checked;
    const verdict = one.querySelector("[name=verdict]").value;
    one.querySelector(".details").hidden = !isFound;
    one.querySelector("[name=evidence]").required = isFound;
    one.querySelector(".limits").hidden = verdict !== "limited";
    if (isFound) verdicts.add(verdict);
  }
  const button = form.querySelector("button.main");
  const [approve, limit, reject] = button.dataset.words.split(",");
  button.textContent = verdicts.has("rejected") ? reject : verdicts.has("limited") ? limit : approve;
  button.classList.toggle("reject", verdicts.has("rejected"));
  button.classList.toggle("limit", verdicts.has("limited") && !verdicts.has("rejected"));
}

const NEEDS_TOKEN = /\/(decide|hold|resume|skip|release|escalate)$/;

function request(source) {
  let [method, address] = source.dataset.send.split(" ");
  const options = { method, headers: { "X-Adyton": "1" } };
  if (method === "GET" || method === "DELETE") return [address, options];
  const body = source.tagName !== "FORM" ? {} : source.id === "decide" ? decision(source) : fields(source);
  address = address.replace(/\{(\w+)\}/g, (_, name) => {
    const value = encodeURIComponent(body[name]);
    delete body[name];
    return value;
  });
  const token = document.querySelector(".steps")?.dataset.token;
  if (token && NEEDS_TOKEN.test(address)) body.claim_token = token;
  options.headers["Content-Type"] = "application/json";
  options.body = JSON.stringify(body);
  return [address, options];
}

function arrive(source, told) {
  switch (source.dataset.follow) {
    case "home": return location.assign(told.home || "/");
    case "next": return location.assign("/work");
    case "it": return location.assign(`/ads/${told.ad_id}`);
    case "ad":
      if (told.ad) return location.assign(`/ads/${told.ad.ad_id}`);
      const barred = Object.entries(told.barred).map(([why, n]) => `${n} ${why}`).join(", ");
      return refuse({ what: "no ad waits for you", hint: barred && `waiting but not for you: ${barred}` });
    case "stay": return tell("answer", Object.entries(told).map(([name, value]) =>
      `${name.replaceAll("_", " ")}: ${Array.isArray(value) ? value.length : value}`).join(" · "));
    default: return location.reload();
  }
}

async function send(source, button) {
  if (button.getAttribute("aria-busy") === "true") return;
  if (source.dataset.ask && !confirm(source.dataset.ask)) return;
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    const [address, options] = request(source);
    const answer = await fetch(address, options);
    const told = await answer.json();
    if (answer.ok) arrive(source, told);
    else refuse(told);
  } catch (error) {
    refuse({ what: "the server did not answer", hint: "try again; doing it twice does no harm" });
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
  }
}

// A lock's time runs on the reader's clock from the moment the page came, so that a wrong clock does no harm.
function tick(clocks, since) {
  for (const clock of clocks) {
    const left = Number(clock.dataset.untilMs) - (performance.now() - since);
    const seconds = Math.max(0, Math.ceil(left / 1000));
    clock.textContent = left > 0 ? `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left` : "over";
    if (left <= 0 && clock.dataset.over && !clock.classList.contains("over")) {
      clock.classList.add("over");
      for (const button of document.querySelectorAll(".steps button")) button.disabled = true;
      refuse({ what: clock.dataset.over });
    }
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target, event.submitter || event.target.querySelector("button"));
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-send]");
  if (button) send(button, button);
});
document.addEventListener("change", (event) => {
  const form = event.target.closest("#decide");
  if (form) follow(form);
});
const clocks = document.querySelectorAll("[data-until-ms]");
if (clocks.length) {
  const since = performance.now();
  tick(clocks, since);
  setInterval(tick, 1000, clocks, since);
}
const form = document.getElementById("decide");
if (form) follow(form);
