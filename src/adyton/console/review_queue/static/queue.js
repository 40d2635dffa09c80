// Sends what a button or form says, once, and shows a refusal in the words of the server.
"use strict";

function show(refusal) {
  const place = document.getElementById("refusal");
  place.textContent = refusal.hint ? `${refusal.what} (${refusal.hint})` : refusal.what;
  place.hidden = false;
}

function fields(form) {
  const body = {};
  for (const [name, value] of new FormData(form)) if (value !== "") body[name] = name === "minutes" ? Number(value) : value;
  return body;
}

// One finding at most in the page; the API takes many.
function decision(form) {
  const given = fields(form);
  const body = { note: given.note || "", findings: [] };
  if (given.label) {
    const option = form.elements.label.selectedOptions[0];
    const finding = { label: given.label, version: Number(option.dataset.version), verdict: "rejected", evidence: given.evidence || "" };
    const countries = (given.not_in_countries || "").split(",").map((name) => name.trim()).filter(Boolean);
    if (countries.length || given.min_age) {
      finding.verdict = "limited";
      finding.not_in_countries = countries;
      if (given.min_age) finding.min_age = Number(given.min_age);
    }
    body.findings.push(finding);
  }
  return body;
}

const NEEDS_TOKEN = /\/(decide|hold|resume|skip|release|escalate)$/;

async function send(source, button) {
  const address = source.dataset.post || source.dataset.get;
  if (source.dataset.ask && !confirm(source.dataset.ask)) return;
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    const request = { method: source.dataset.get ? "GET" : "POST", headers: { "X-Adyton": "1" } };
    if (!source.dataset.get) {
      const body = source.tagName !== "FORM" ? {} : address.endsWith("/decide") ? decision(source) : fields(source);
      const token = document.querySelector(".steps")?.dataset.token;
      if (token && NEEDS_TOKEN.test(address)) body.claim_token = token;
      request.headers["Content-Type"] = "application/json";
      request.body = JSON.stringify(body);
    }
    const answer = await fetch(address, request);
    const told = await answer.json();
    if (!answer.ok) return show(told);
    if (source.dataset.get) document.getElementById("answer").textContent = JSON.stringify(told);
    else if (source.dataset.follow === "home") location.assign(told.home || "/");
    else if (source.dataset.follow === "next") location.assign("/work");
    else if (source.dataset.follow === "ad") {
      if (told.ad) location.assign(`/ads/${told.ad.ad_id}`);
      else show({ what: "no ad waits for you", hint: Object.entries(told.barred).map(([why, n]) => `${n} ${why}`).join(", ") });
    } else location.reload();
  } catch (error) {
    show({ what: "the server did not answer", hint: "try again" });
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target, event.submitter);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-post], button[data-get]");
  if (button) send(button, button);
});
