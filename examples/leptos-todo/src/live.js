// Keeps the page as the list is, whoever changes it. The server tells each new version of the list; where the page has a program of
// its own (data-program) that is told, elsewhere the new parts of the page are fetched and put into their places.
"use strict";
(() => {
  const root = document.documentElement;
  let source = null;
  let pending = Promise.resolve();
  let wanted = root.dataset.version;

  const replace = async () => {
    const response = await fetch("/", { headers: { accept: "text/html" } });
    if (!response.ok) throw new Error(`the page was answered ${response.status}`);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const focused = document.activeElement?.id;
    for (const id of ["todos", "stats"]) {
      const [here, there] = [document.getElementById(id), page.getElementById(id)];
      if (here && there) here.replaceChildren(...there.childNodes);
    }
    root.dataset.version = page.documentElement.dataset.version;
    if (focused) document.getElementById(focused)?.focus();
  };

  const catchUp = () => {
    if (wanted === root.dataset.version) return;
    if ("program" in root.dataset) {
      // It fetches, and tries again, by itself.
      root.dataset.version = root.dataset.news = wanted;
      window.dispatchEvent(new Event("todos-changed"));
    } else {
      pending = pending.then(() => wanted === root.dataset.version || replace()).catch(console.warn);
    }
  };

  // A page that nobody sees holds no connection: browsers open only six to a server. The first thing that is heard is the version
  // as it is then, so nothing is missed.
  const listen = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source || source.readyState === EventSource.CLOSED) {
      source = new EventSource("/changes");
      source.onmessage = (event) => {
        wanted = event.data;
        catchUp();
      };
    }
  };
  document.addEventListener("visibilitychange", listen);

  // What went wrong before this page should not be told again when it is reloaded. A program reads it from the address first.
  const forget = () => {
    const isRead = !("program" in root.dataset) || "alive" in root.dataset;
    if (isRead && location.search) history.replaceState(null, "", location.pathname);
  };

  // A browser gives up where the server refused, and a page may not have come; try again.
  setInterval(() => {
    listen();
    catchUp();
    forget();
  }, 5000);
  listen();
  forget();
})();
