// Keeps the page as the list is, whoever changes it. The server tells each new version of the list; where the page has a program of
// its own (data-program) that is told, elsewhere the new parts of the page are fetched and put into their places.
"use strict";
(() => {
  const root = document.documentElement;
  let source = null;
  let pending = Promise.resolve();

  const replace = async () => {
    const response = await fetch("/", { headers: { accept: "text/html" } });
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const focused = document.activeElement?.id;
    for (const id of ["todos", "stats"]) {
      const [here, there] = [document.getElementById(id), page.getElementById(id)];
      if (here && there) here.replaceChildren(...there.childNodes);
    }
    root.dataset.version = page.documentElement.dataset.version;
    if (focused) document.getElementById(focused)?.focus();
  };

  const hear = (version) => {
    if (version === root.dataset.version) return;
    if ("program" in root.dataset) {
      root.dataset.version = root.dataset.news = version;
      window.dispatchEvent(new Event("todos-changed"));
    } else {
      pending = pending.then(() => version === root.dataset.version || replace()).catch(console.warn);
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
      source.onmessage = (event) => hear(event.data);
    }
  };
  document.addEventListener("visibilitychange", listen);
  // A browser gives up where the server refused; try again.
  setInterval(listen, 5000);
  listen();

  // What went wrong before this page should not be told again when it is reloaded.
  if (!("program" in root.dataset) && location.search) history.replaceState(null, "", location.pathname);
})();
