// The hosts of a fleet: asked for every two seconds, and not while the tab is hidden.
"use strict";

const LOOK_EVERY = 2000; // ms
const PATIENCE = 8000; // ms

const $ = (id) => document.getElementById(id);

function cell(text, className = "", title = "") {
  const element = document.createElement("td");
  element.textContent = text;
  element.className = className;
  element.title = title;
  return element;
}

function number(value) {
  return value === null ? "?" : String(value);
}

function row(host) {
  const element = document.createElement("tr");
  element.append(
    cell(host.host),
    cell(host.state, host.state === "live" ? "ok" : "error"),
    cell(host.cameras.length, "number", host.cameras.join(", ")),
    cell(number(host.lag), "number"),
    cell(number(host.pending), "number"),
    cell(`${host.heard_s.toFixed(1)} s`, "number"),
    cell(host.versions.join(", ")),
  );
  return element;
}

function say(text, bad) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function draw(fleet) {
  const routers = fleet.routers.filter((router) => router.state === "live");
  const dead = fleet.hosts.filter((host) => host.state === "dead");
  const words = [
    routers.length ? `${routers.length} routers: ${routers.map((router) => router.router).join(", ")}` : "no router is alive",
    `${number(fleet.lag)} waiting on ${fleet.stream}`,
    ...(dead.length ? [`${dead.length} hosts are dead`] : []),
  ];
  say(words.join(" · "), !routers.length || dead.length > 0);
  $("hosts").replaceChildren(...fleet.hosts.map(row));
  const doubled = Object.entries(fleet.doubled).map(([code, hosts]) => {
    const element = document.createElement("li");
    element.textContent = `${code}: ${hosts.join(", ")}; ${hosts[0]} answers`;
    return element;
  });
  $("doubled").hidden = !doubled.length;
  $("doubled-list").replaceChildren(...doubled);
}

async function look() {
  if (!document.hidden) {
    try {
      const response = await fetch("fleet", { signal: AbortSignal.timeout(PATIENCE) });
      if (response.ok) draw(await response.json());
      else say(await response.text(), true);
    } catch (error) {
      say(`no answer: ${error.message}`, true);
    }
  }
  setTimeout(look, LOOK_EVERY);
}

look();
