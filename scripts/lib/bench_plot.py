"""A bar chart of one bench result as SVG, without any library: ours and the others for each measurement, on its own scale."""

from html import escape

COLOURS = {"dindctl": "#0b6e4f"}
OTHER = "#9aa5b1"
WIDTH, LABEL, BAR, GAP, LINE = 900, 190, 480, 26, 20


def number(row):
    digits = 0 if row["unit"] in ("KiB", "") or row["median"] >= 100 else 1
    return f"{row['median']:,.{digits}f} {row['unit']}".strip()


def plot(result):
    groups = {}
    for row in result["rows"]:
        groups.setdefault(row["measurement"], []).append(row)
    height = 90 + sum(LINE * (len(rows) + 1) + GAP for rows in groups.values())
    machine = result["machine"]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        '<text x="20" y="32" font-size="18" font-weight="bold">dindctl beside what it replaces (median; less is better)</text>',
        f'<text x="20" y="54" fill="#555">{escape(result["dindctl"])}; Docker {escape(machine["engine"])}, kernel '
        f'{escape(machine["kernel"])}, {machine["cpus"]} CPUs, cgroup v{machine["cgroup"]}; whiskers: smallest and largest</text>',
    ]
    y = 90
    for name, rows in groups.items():
        out.append(f'<text x="20" y="{y}" font-weight="bold">{escape(name)}</text>')
        largest = max(row["max"] for row in rows) or 1
        for row in rows:
            y += LINE
            scale = BAR / largest
            width = max(row["median"] * scale, 1)
            middle = y - 5
            out.append(f'<text x="{LABEL - 10}" y="{y}" text-anchor="end">{escape(row["variant"])}</text>')
            out.append(f'<rect x="{LABEL}" y="{y - 12}" width="{width:.1f}" height="14" fill="{COLOURS.get(row["variant"], OTHER)}"/>')
            low, high = LABEL + row["min"] * scale, LABEL + row["max"] * scale
            out.append(f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" stroke="#333" fill="none"/>')
            ratio = f' (dindctl: {row["ours_to_this"]:.2f}x)' if row["ours_to_this"] is not None else ""
            out.append(f'<text x="{LABEL + BAR + 15}" y="{y}">{escape(number(row) + ratio)}</text>')
        y += LINE + GAP
    out.append("</svg>")
    return "\n".join(out) + "\n"
