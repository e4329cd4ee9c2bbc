// The page is served below / and below /plugins/NAME/, so every address in it is relative; and under a policy that
// allows no inline code, so nothing is inlined.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    outDir: "../page/built",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
  },
});
