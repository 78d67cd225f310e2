/* Browsers refuse workers to pages that were opened as files. The search of the site needs one: run its script in an
   invisible frame instead, which speaks with this page by messages as a worker would. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const place = new URL(url, location.href).href;
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.ready = new Promise((resolve, reject) => {
        this.frame.onload = () => {
          const inside = this.frame.contentWindow;
          inside.postMessage = (data) => this.tell(data);
          inside.importScripts = (...names) =>
            names.reduce((before, name) => before.then(() => load(inside, new URL(name, place).href)), Promise.resolve());
          load(inside, place).then(() => resolve(inside), reject);
        };
      });
      document.body.appendChild(this.frame);
    }
    tell(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      if (this.onmessage) this.onmessage(event);
    }
    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
function load(inside, source) {
  return new Promise((resolve, reject) => {
    const script = inside.document.createElement("script");
    Object.assign(script, { src: source, onload: resolve, onerror: reject });
    inside.document.body.appendChild(script);
  });
}
