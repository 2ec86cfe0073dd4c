// The page: asks for the whole host once a second and for the pictures of what is on screen, and for nothing while the
// tab is hidden. Pictures of the grid come one by one, and only when they have changed: a browser opens six connections
// to a host at most, and a stream keeps one. The large view has a stream.
"use strict";

const STATES = ["live", "stalled", "connecting", "down"];
const STAGES = ["queued", "waiting", "converting", "encoding", "uploading", "callback"];
const LOOK_EVERY = 1000; // ms
const PICTURE_EVERY = 1000; // ms
const PATIENCE = 8000; // ms
const AT_ONCE = 3; // pictures
const STEP = 160; // pixels between two widths asked for, so that viewers share pictures

const $ = (id) => document.getElementById(id);
const cards = new Map(); // by code
const filter = { words: "", states: new Set() };
let host = { cameras: [], requests: [], ahead: 0 };

// Small things

function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function age(seconds) {
  if (seconds === null) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function width(element, camera) {
  const wanted = Math.ceil((element.clientWidth * devicePixelRatio) / STEP) * STEP;
  return Math.max(Math.min(16, camera.width), Math.min(wanted, camera.width));
}

// The address of a camera's pictures. One whose frames are far between has none that is as new as others must be.
function path(camera, kind, element) {
  const slow = camera.fps > 0 && camera.fps < 2 ? `&max_age=${(3 / camera.fps).toFixed(1)}` : "";
  return `cameras/${encodeURIComponent(camera.code)}.${kind}?width=${width(element, camera)}${slow}`;
}

// One camera of the grid

class Card {
  constructor(code) {
    this.element = $("card").content.firstElementChild.cloneNode(true);
    this.element.dataset.code = code;
    this.part = (name) => this.element.querySelector(`.${name}`);
    this.picture = this.part("picture");
    this.image = this.element.querySelector("img");
    this.onScreen = false;
    this.due = 0;
    this.etag = "";
    this.trouble = "";
    show(this.part("code"), code);
    this.part("code").title = code;
    this.picture.setAttribute("aria-label", `Camera ${code}, large`);
    this.picture.addEventListener("click", () => go({ camera: code }));
    seen.observe(this.element);
  }

  remove() {
    seen.unobserve(this.element);
    URL.revokeObjectURL(this.image.src);
    this.element.remove();
  }

  update(camera) {
    this.camera = camera;
    this.element.dataset.state = camera.state;
    show(this.part("state"), camera.state);
    show(this.part("age"), age(camera.age_s));
    show(this.part("size"), camera.width ? `${camera.width}×${camera.height}` : "–");
    show(this.part("fps"), camera.fps.toFixed(1));
    this.count("drops", camera.dropped);
    this.count("damaged", camera.corrupt);
    this.count("reconnects", camera.reconnects);
    this.count("restarts", camera.restarts);
    this.explain();
  }

  count(name, number) {
    show(this.part(name), String(number));
    this.part(name).classList.toggle("worth", number > 0);
  }

  explain() {
    const reason = this.camera.reason || this.trouble;
    show(this.part("reason"), reason);
    this.picture.classList.toggle("old", this.trouble !== "" || this.camera.state !== "live");
  }

  get wanted() {
    return this.onScreen && !this.element.hidden && this.camera && this.camera.state === "live";
  }

  async refresh() {
    const url = `${path(this.camera, "jpg", this.picture)}&quality=70`;
    try {
      const answer = await fetch(url, {
        cache: "no-store",
        headers: this.etag ? { "If-None-Match": this.etag } : {},
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (answer.status === 200) {
        const last = this.image.src;
        this.image.src = URL.createObjectURL(await answer.blob());
        this.image.hidden = false;
        this.etag = answer.headers.get("ETag");
        URL.revokeObjectURL(last);
      }
      this.trouble = answer.status === 200 || answer.status === 304 ? "" : (await answer.text()).trim();
    } catch (error) {
      this.trouble = `no picture came: ${error.message}`;
    }
    this.explain();
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = cards.get(entry.target.dataset.code);
    if (card) card.onScreen = entry.isIntersecting;
  }
  pump();
});

// Pictures: the one that has waited longest first

let underWay = 0;
let pumping = 0;

function pump() {
  clearTimeout(pumping);
  if (document.hidden || $("large").open) return;
  const now = performance.now();
  const waiting = [...cards.values()].filter((card) => card.wanted && !card.busy).sort((a, b) => a.due - b.due);
  for (const card of waiting) {
    if (card.due > now || underWay >= AT_ONCE) {
      if (underWay < AT_ONCE) pumping = setTimeout(pump, card.due - now);
      return;
    }
    card.busy = true;
    card.due = now + PICTURE_EVERY;
    underWay += 1;
    card.refresh().finally(() => {
      card.busy = false;
      underWay -= 1;
      pump();
    });
  }
}

// The large view

const large = {
  shown: "", // what the stream is of: nothing else of a camera that changes is a reason to begin another
  code: "",

  update() {
    const code = new URLSearchParams(location.hash.slice(1)).get("camera");
    const camera = host.cameras.find((one) => one.code === code);
    const dialog = $("large");
    if (this.code !== (camera ? camera.code : "")) {
      this.code = camera ? camera.code : "";
      past.leave();
    }
    if (!camera) {
      this.stream(null);
      if (dialog.open) dialog.close();
      return;
    }
    if (!dialog.open) dialog.showModal();
    dialog.dataset.state = camera.state;
    show($("large-code"), camera.code);
    show(dialog.querySelector(".state"), camera.state);
    const size = camera.width ? `${camera.width}×${camera.height}` : "–";
    show(dialog.querySelector(".facts"), `${size}, ${camera.fps.toFixed(1)} fps, ${age(camera.age_s)} old`);
    show(dialog.querySelector(".reason"), camera.reason);
    dialog.querySelector(".picture").classList.toggle("old", camera.state !== "live");
    // A stream that has ended, or shows a decoder that is gone, is opened anew when the camera is back.
    past.update(camera);
    const live = camera.state === "live" && !document.hidden && past.moment === null;
    this.stream(live ? camera : null);
  },

  stream(camera) {
    const place = $("large").querySelector(".picture");
    const shown = camera ? `${camera.code} ${width(place, camera)}` : "";
    if (shown === this.shown) return;
    this.shown = shown;
    const image = $("large").querySelector("img");
    const next = image.cloneNode(); // an image that was a stream keeps its connection for as long as it likes
    next.removeAttribute("src");
    image.removeAttribute("src");
    if (camera) {
      next.src = path(camera, "mjpeg", place);
      next.alt = `Camera ${camera.code}`;
      next.addEventListener("error", () => {
        if (next.isConnected) this.shown = "";
      });
    }
    image.replaceWith(next);
  },
};

// What the camera showed a while ago, as far as its decoder keeps that: one picture is asked for at a time

const CLIP = 5; // s before the moment, and after it
const TO_THE_MILLISECOND = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 };

const past = {
  moment: null, // Unix seconds by the clock of the host; null: the stream is shown
  busy: false,

  update(camera) {
    const kept = Math.floor((camera.back_s ?? 0) * 10 - 5) / 10; // what is about to go is not offered
    $("past").hidden = !(kept > 0) && this.moment === null;
    if (kept > 0) $("ago").min = String(-kept);
  },

  leave() {
    this.moment = null;
    $("ago").value = "0";
    show($("then"), "live");
    $("clip").hidden = true;
  },

  choose() {
    const ago = Number($("ago").value);
    if (ago === 0) {
      this.leave();
      large.update();
      return;
    }
    this.moment = Date.now() / 1000 + host.ahead + ago;
    large.stream(null);
    const code = encodeURIComponent(large.code);
    $("clip").href = `cameras/${code}.mp4?at=${this.moment.toFixed(3)}&before=${CLIP}&after=${CLIP}`;
    $("clip").hidden = false;
    if (!this.busy) this.look();
  },

  async look() {
    const camera = host.cameras.find((one) => one.code === large.code);
    const moment = this.moment;
    if (!camera || moment === null) return;
    const image = $("large").querySelector("img");
    this.busy = true;
    try {
      const url = `${path(camera, "jpg", $("large").querySelector(".picture"))}&at=${moment.toFixed(3)}`;
      const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      const content = URL.createObjectURL(await answer.blob());
      const captured = new Date(Number(answer.headers.get("X-Frame-Captured-At")) * 1000);
      if (this.moment !== null && image.isConnected) {
        image.addEventListener("load", () => URL.revokeObjectURL(content), { once: true });
        image.src = content;
        image.alt = `Camera ${camera.code}, a while ago`;
        show($("then"), captured.toLocaleTimeString(undefined, TO_THE_MILLISECOND));
      }
    } catch (error) {
      if (this.moment !== null) show($("then"), error.message);
    }
    this.busy = false;
    if (this.moment !== null && this.moment !== moment) this.look(); // another was chosen meanwhile
  },
};

$("ago").addEventListener("input", () => past.choose());
$("large").addEventListener("close", () => go({ camera: "" }));
$("close").addEventListener("click", () => $("large").close());

// The filter, which stands in the address

function go(changes) {
  const hash = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(changes)) value ? hash.set(name, value) : hash.delete(name);
  const text = hash.toString();
  if (text !== location.hash.slice(1)) history.replaceState(null, "", text ? `#${text}` : location.pathname);
  heed();
}

function heed() {
  const hash = new URLSearchParams(location.hash.slice(1));
  filter.words = hash.get("name") ?? "";
  filter.states = new Set((hash.get("state") ?? "").split(",").filter((state) => STATES.includes(state)));
  if ($("words").value !== filter.words) $("words").value = filter.words;
  arrange();
  large.update();
  pump();
}

function arrange() {
  const words = filter.words.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards.values()) {
    const code = card.camera.code.toLowerCase();
    const hit = words.every((word) => code.includes(word));
    card.element.hidden = !(hit && (filter.states.size === 0 || filter.states.has(card.camera.state)));
    shown += card.element.hidden ? 0 : 1;
  }
  $("nothing").hidden = shown > 0 || cards.size === 0;
  for (const chip of $("states").children) {
    const state = chip.dataset.state;
    const count = host.cameras.filter((camera) => camera.state === state).length;
    show(chip, `${count} ${state}`);
    chip.setAttribute("aria-pressed", String(filter.states.has(state)));
  }
}

for (const state of STATES) {
  const chip = document.createElement("button");
  chip.type = "button";
  chip.className = "chip state";
  chip.dataset.state = state;
  chip.addEventListener("click", () => {
    const states = new Set(filter.states);
    if (!states.delete(state)) states.add(state);
    go({ state: [...states].join(",") });
  });
  $("states").append(chip);
}
for (const stage of STAGES) $("legend").append(span(stage, stage));
$("words").addEventListener("input", () => go({ name: $("words").value }));
$("filter").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", heed);

// The whole host

function showCameras() {
  const codes = new Set(host.cameras.map((camera) => camera.code));
  for (const [code, card] of cards) {
    if (!codes.has(code)) {
      card.remove();
      cards.delete(code);
    }
  }
  let previous = null;
  for (const camera of host.cameras) {
    let card = cards.get(camera.code);
    if (!card) cards.set(camera.code, (card = new Card(camera.code)));
    card.update(camera);
    const place = previous ? previous.nextSibling : $("grid").firstChild;
    if (place !== card.element) $("grid").insertBefore(card.element, place);
    previous = card.element;
  }
}

function showRequests() {
  const newest = host.requests.length ? host.requests[0].id : "";
  if ($("requests").dataset.newest === newest) return;
  $("requests").dataset.newest = newest;
  $("no-requests").hidden = host.requests.length > 0;
  $("requests").replaceChildren(...host.requests.map(row));
}

function total(request) {
  return request.stages.reduce((sum, [, milliseconds]) => sum + milliseconds, 0);
}

function row(request) {
  const line = document.createElement("tr");
  const cell = (text, className = "") => {
    const element = document.createElement("td");
    element.className = className;
    element.textContent = text;
    line.append(element);
    return element;
  };
  cell(new Date(request.at * 1000).toLocaleTimeString());
  cell(request.camera);
  cell(request.ok ? "ok" : request.message, request.ok ? "ok" : "error");
  cell(total(request).toFixed(0), "number");
  const bar = document.createElement("div");
  bar.className = "stages";
  bar.title = request.stages.map(([name, milliseconds]) => `${name} ${milliseconds} ms`).join(", ");
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", bar.title);
  for (const [name, milliseconds] of request.stages) {
    const part = span(name, "");
    part.style.width = `${(100 * milliseconds) / (total(request) || 1)}%`;
    bar.append(part);
  }
  cell("").append(bar);
  return line;
}

function showStatus(text, bad) {
  show($("status"), text);
  $("fleet").hidden = !host.routed;
  $("status").classList.toggle("bad", bad);
}

let looking = 0;

async function look() {
  clearTimeout(looking);
  if (document.hidden) return;
  try {
    const answer = await fetch("overview", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error((await answer.text()).trim().split("\n")[0]);
    host = await answer.json();
    host.ahead = host.now - Date.now() / 1000; // s by which its clock is before the browser's
    const queue = host.queue ? `${host.queue.lag} waiting, ${host.queue.pending} in hand, ${host.queue.dead} dead` : "Redis does not answer";
    const warning = host.warning ? `; its group is not this host's alone: ${host.warning}` : "";
    showStatus(`snapd: ${host.status}; ${queue}${warning}`, !host.well || !host.queue || warning !== "");
    showCameras();
    showRequests();
    heed();
  } catch (error) {
    showStatus(`What you see is old: snapd does not answer (${error.message})`, true);
  }
  clearTimeout(looking);
  looking = setTimeout(look, LOOK_EVERY);
}

document.addEventListener("visibilitychange", () => {
  large.update();
  look();
  pump();
});
look();
