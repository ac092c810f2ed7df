// Signing in and the forms. The token stays in this tab's session storage and travels as a header, never in a URL or cookie.
"use strict";

const KEY = "govledger-token";

const token = () => sessionStorage.getItem(KEY);

function say(form, text) {
  form.querySelector("output").textContent = text;
}

// Loads this page again with the token, and puts its content in place of the sign-in form.
async function load() {
  const response = await fetch(location.href, { headers: { Authorization: `Bearer ${token()}` } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  document.title = page.title;
  document.querySelector("main").replaceWith(page.querySelector("main"));
  wire();
}

// One key a form: pressing the button twice, or again after a lost answer, is the same command.
function idempotencyKey(form) {
  if (!form.dataset.key) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    form.dataset.key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  return form.dataset.key;
}

async function command(form) {
  if (!token()) {
    say(form, "Enter a token first.");
    return;
  }
  // What a command says are the form's named fields; one left empty is not said.
  const said = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  // The decision is about the waiver that this page shows; one that has changed since is refused with 412.
  const seen = form.dataset.ifMatch ? { "If-Match": form.dataset.ifMatch } : {};
  const response = await fetch(form.dataset.action, {
    method: "POST",
    headers: { Authorization: `Bearer ${token()}`, "Content-Type": "application/json", "Idempotency-Key": idempotencyKey(form), ...seen },
    body: JSON.stringify(said),
  });
  const answer = await response.json();
  if (response.status === 200) {
    say(form, `Applied as entry ${answer.position}.`);
  } else if (response.status === 202) {
    say(form, "On its way; press again to see how it ended.");
  } else {
    const by = answer.by_position === undefined ? "" : ` (see entry ${answer.by_position})`;
    say(form, `${answer.title}: ${answer.detail}${by}`);
    // A refusal is final under its key, so whatever is asked next is another command; a failure may be repeated.
    if (response.status < 500) {
      delete form.dataset.key;
    }
  }
}

function onSubmit(form, act) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(form).catch((error) => say(form, `No answer: ${error.message}`));
  });
}

function wire() {
  for (const form of document.querySelectorAll("form.token")) {
    onSubmit(form, async () => {
      sessionStorage.setItem(KEY, new FormData(form).get("token").trim());
      form.reset();
      say(form, "Kept in this tab.");
      if (document.body.hasAttribute("data-needs-token")) {
        await load();
      }
    });
  }
  for (const form of document.querySelectorAll("form.command")) {
    onSubmit(form, command);
  }
}

if (document.body.hasAttribute("data-needs-token") && token()) {
  load().catch(wire);
} else {
  wire();
}
