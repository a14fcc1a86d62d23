// What the script adds to pages that work without it: keys, local times, the slider, the log as it grows. Texts of events are put in as
// texts (`textContent`), never as markup.
"use strict";

(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const first = (selector) => document.querySelector(selector);

  // Something for a reader of the screen, and for one who hears it.
  const said = document.createElement("div");
  said.className = "said";
  said.setAttribute("role", "status");
  said.hidden = true;
  document.body.append(said);
  let hides;
  const say = (text) => {
    said.textContent = text;
    said.hidden = false;
    clearTimeout(hides);
    hides = setTimeout(() => { said.hidden = true; }, 2500);
  };

  // Times are in UTC; the reader's own is where he points.
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  document.addEventListener("pointerover", (event) => {
    const time = event.target.closest?.("time");
    if (!time || time.title) return;
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.title = local.format(moment);
  });

  // The slider says where it is, and goes there when it is let go.
  for (const form of all("form[data-slider]")) {
    const range = form.querySelector("input[type=range]");
    const output = form.querySelector("output");
    range.addEventListener("input", () => { output.textContent = range.value; });
    range.addEventListener("change", () => form.requestSubmit());
  }

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      say("The browser did not let it be copied");
    }
  };
  for (const code of all("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", () => copy(code.textContent));
    code.after(" ", button);
  }

  // Keys.
  const SETTING = "keplor.keys";
  const isOn = () => {
    try { return localStorage.getItem(SETTING) !== "off"; } catch { return true; }
  };
  const switched = first("#single-keys");
  if (switched) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = isOn();
    box.addEventListener("change", () => {
      try { localStorage.setItem(SETTING, box.checked ? "on" : "off"); } catch { /* It holds for this page only. */ }
    });
    label.append(box, " Keys are on");
    switched.append(label);
  }

  const rows = () => all("[data-row]").filter((row) => row.querySelector("a[href]"));
  const move = (by) => {
    const list = rows();
    if (list.length === 0) return;
    const at = list.findIndex((row) => row.contains(document.activeElement));
    const next = at < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + by, 0), list.length - 1);
    list[next].querySelector("a[href]").focus();
    list[next].scrollIntoView({ block: "nearest" });
  };
  const press = (key) => {
    const found = all("[data-key]").find((element) => element.dataset.key === key);
    if (!found) return false;
    if (found instanceof HTMLDetailsElement) {
      found.open = !found.open;
      if (found.open) (found.querySelector("input:not([type=hidden])") ?? found.querySelector("summary")).focus();
      found.scrollIntoView({ block: "nearest" });
    } else {
      found.click();
    }
    return true;
  };
  let isGoing = false;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !isOn()) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const { key } = event;
    if (isGoing) {
      isGoing = false;
      if (press(`g ${key}`)) event.preventDefault();
      return;
    }
    const does = {
      g: () => { isGoing = true; setTimeout(() => { isGoing = false; }, 1500); },
      "/": () => first("#find")?.focus(),
      j: () => move(1),
      k: () => move(-1),
      x: () => {
        const details = all("main details");
        const open = details.some((one) => !one.open);
        for (const one of details) one.open = open;
      },
      y: () => copy(location.href),
    }[key];
    if (does) {
      does();
      event.preventDefault();
    } else if (["u", "[", "]", "t", "n", "?"].includes(key) && press(key)) {
      event.preventDefault();
    }
  });

  // A page of nothing looks again when the first event comes.
  if (first("[data-empty]")) {
    const look = async () => {
      try {
        const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
        if (answer.ok && !(await answer.text()).includes("data-empty")) location.reload();
      } catch { /* The server may be starting. */ }
    };
    setInterval(look, 3000);
  }

  // The log as it grows.
  const live = first("[data-live]");
  if (live && "EventSource" in window) {
    const ROWS_MAX = 500;
    const root = live.dataset.root;
    const body = live.querySelector("tbody");
    const bar = first("p.live");
    const button = document.createElement("button");
    button.type = "button";
    const state = document.createElement("span");
    state.setAttribute("role", "status");
    bar.append(button, state);
    let source;
    let waiting = [];
    let count = 0;
    let since = 0;

    const element = (name, className, ...inner) => {
      const made = document.createElement(name);
      if (className) made.className = className;
      made.append(...inner);
      return made;
    };
    const link = (href, ...inner) => {
      const made = element("a", "", ...inner);
      made.setAttribute("href", href);
      return made;
    };
    const time = (ms) => {
      const moment = new Date(ms);
      const text = Number.isNaN(moment.getTime()) ? String(ms) : moment.toISOString();
      const made = element("time", "", text);
      made.dateTime = text;
      return made;
    };
    const isDots = (id) => id === "." || id === "..";
    const row = (event) => {
      const entity = isDots(event.entity_id)
        ? `${root}find?q=${encodeURIComponent(`${event.entity_type}/${event.entity_id}`)}`
        : `${root}e/${encodeURIComponent(event.entity_type)}/${encodeURIComponent(event.entity_id)}`;
      const number = element("th", "number", link(`${root}events/${event.sequence}`, `#${event.sequence}`));
      number.scope = "row";
      const operation = event.operation.toLowerCase();
      const cells = [
        ["What", element("span", `badge ${operation}`, operation)],
        ["Entity", link(entity, `${event.entity_type} `, element("bdi", "id", event.entity_id))],
        ["Sets", Object.keys(event.payload ?? {}).slice(0, 6).join(", ")],
        ["Happened", time(event.event_time_ms)],
        ["Came in", time(event.received_at_ms)],
        ["By", element("bdi", "", event.client)],
      ];
      const made = element("tr", "fresh", number);
      made.dataset.row = "";
      for (const [label, inner] of cells) {
        const cell = element("td", "", inner);
        cell.dataset.label = label;
        made.append(cell);
      }
      return made;
    };
    const draw = () => {
      // However fast they come, a screen is drawn once at a time, with as many as it can hold.
      for (const event of waiting.splice(0).slice(-ROWS_MAX)) body.prepend(row(event));
      while (body.rows.length > ROWS_MAX) body.lastElementChild.remove();
    };
    let told = 0;
    const tell = () => {
      const seconds = Math.max((performance.now() - since) / 1000, 1);
      state.textContent = source ? `Following: ${count} events, ${(count / seconds).toFixed(1)} a second` : "";
    };
    const stop = (text) => {
      source?.close();
      source = undefined;
      button.textContent = "Follow";
      state.textContent = text;
    };
    const start = () => {
      count = 0;
      since = performance.now();
      const last = body.querySelector("th a")?.textContent.slice(1);
      const url = new URL(live.dataset.live, location.href);
      if (last) url.searchParams.set("after", last);
      source = new EventSource(url);
      source.onmessage = (message) => {
        const isFirst = waiting.length === 0;
        waiting.push(JSON.parse(message.data));
        count += 1;
        if (isFirst) requestAnimationFrame(draw);
        const now = performance.now();
        // Who hears the page is told now and then, and not each time.
        if (now - told > 2000) { told = now; tell(); }
      };
      source.addEventListener("end", (message) => stop(`Ended: ${message.data}`));
      source.onerror = () => { if (source?.readyState === EventSource.CLOSED) stop("The connection was lost"); };
      button.textContent = "Pause";
      state.textContent = "Following: 0 events";
    };
    button.addEventListener("click", () => (source ? stop("Paused") : start()));
    stop("");
  }
})();
