// The editor in a browser: what people click and type, and what they see.
import { chromium } from 'playwright-core';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];
const PATIENCE = 120_000;

/** Opens the editor and gives what can be done in it; `close` ends the browser. */
export async function open(url, password) {
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    page.setDefaultTimeout(PATIENCE);
    await page.goto(url);
    await page.fill('input[type=password]', password);
    await page.click('input[type=submit]');
    const editor = new Editor(page, () => browser.close());
    await editor.isThere();
    return editor;
}

class Editor {
    constructor(page, close) {
        this.page = page;
        this.close = close;
    }

    async isThere() {
        await this.page.waitForSelector('.monaco-workbench');
        await this.page.waitForSelector('.statusbar-item');
        await this.page.waitForSelector('.explorer-folders-view .monaco-list-row');
    }

    /** A new terminal with a prompt. Under load the first key strokes get lost, so each step is tried again. */
    async terminal() {
        for (let attempt = 0; ; attempt += 1) {
            try {
                await this.page.keyboard.press('F1');
                const input = this.page.locator('.quick-input-widget input').first();
                await input.waitFor({ timeout: 10_000 });
                await input.fill('>Terminal: Create New Terminal');
                await this.page.locator('.quick-input-list .monaco-list-row', { hasText: 'Create New Terminal' }).first()
                    .click({ timeout: 10_000 });
                await this.page.waitForSelector('.xterm-rows', { timeout: 20_000 });
                await this.sees(/[$#] *$/m, 30_000);
                return;
            } catch (error) {
                if (attempt === 4) throw error;
                await this.page.keyboard.press('Escape');
            }
        }
    }

    /** What stands in the terminal. */
    async text() {
        const rows = await this.page.locator('.xterm-rows > div').allTextContents();
        return rows.map((row) => row.replaceAll('\u00a0', ' ')).join('\n');
    }

    async sees(pattern, limit = PATIENCE) {
        const end = Date.now() + limit;
        for (;;) {
            const text = await this.text();
            const found = text.match(pattern);
            if (found) return found;
            if (Date.now() > end) throw new Error(`${pattern} is not seen within ${limit} ms; the terminal shows\n${text.trim()}`);
            await this.page.waitForTimeout(200);
        }
    }

    /**
     * Types a command and waits for `pattern` in what comes of it. What is typed does not match it. Entered only when the whole
     * line stands there: while the editor is still loading, another part of it may take the focus and with it the keys.
     */
    async type(command, pattern) {
        const line = `clear; ${command}`;
        for (let attempt = 0; ; attempt += 1) {
            await this.page.locator('.xterm-helper-textarea').last().focus();
            await this.page.keyboard.type(line, { delay: 5 });
            if (await this.stands(line)) break;
            if (attempt === 4) throw new Error(`${line} cannot be typed; the terminal shows\n${(await this.text()).trim()}`);
            await this.page.locator('.xterm-helper-textarea').last().focus();
            await this.page.keyboard.press('Control+u');
            await this.rests();
        }
        await this.page.keyboard.press('Enter');
        return this.sees(pattern);
    }

    /**
     * Waits until nothing has changed in the terminal for 3 s: on a slow machine the echo of a line may come after the keys that took it
     * back, and would be taken for that of the next attempt.
     */
    async rests() {
        let [before, since] = [await this.text(), Date.now()];
        for (const end = Date.now() + 60_000; Date.now() < end && Date.now() - since < 3_000; await this.page.waitForTimeout(200)) {
            const text = await this.text();
            if (text !== before) [before, since] = [text, Date.now()];
        }
    }

    /** Whether a line is the last in the terminal, within 5 s. Where it wraps is the terminal's business. */
    async stands(line) {
        const bare = (text) => text.replaceAll(/\s/g, '');
        for (const end = Date.now() + 5_000; Date.now() < end; await this.page.waitForTimeout(100)) {
            if (bare(await this.text()).endsWith(bare(line))) return true;
        }
        return false;
    }

    /** Whether the explorer shows a name. */
    async shows(name) {
        await this.page.locator('.explorer-folders-view .monaco-list-row', { hasText: name }).first().waitFor();
    }

    async reload() {
        await this.page.reload();
        await this.isThere();
    }

    async picture(path) {
        await this.page.screenshot({ path });
    }
}
