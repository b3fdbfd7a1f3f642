//! The shaders of the scenes.

/// A glow at the horizon that fades into the depths, darker in the corners; `place` is from 0 to 1.
macro_rules! backdrop {
    () => {
        "#version 300 es
precision highp float;
uniform vec3 horizon;
uniform vec3 depths;
vec3 backdrop(vec2 place) {
    float height = place.y - 0.36;
    float glow = height > 0.0 ? exp(-height * 3.2) : exp(height * 6.5) * 0.8;
    vec2 middle = place - vec2(0.5, 0.46);
    float spot = exp(-dot(middle, middle) * 5.0);
    float vignette = 1.0 - dot(place - 0.5, place - 0.5) * 0.9;
    return mix(depths, horizon, clamp(glow * 0.55 + spot * 0.45, 0.0, 1.0)) * vignette;
}
"
    };
}

/// The background, dithered against bands.
pub(super) const BACKDROP: &str = concat!(
    backdrop!(),
    "in vec2 place;
out vec4 result;
float noise(vec2 at) { return fract(52.9829189 * fract(dot(at, vec2(0.06711056, 0.00583715)))); }
void main() {
    vec3 color = pow(backdrop(place), vec3(1.0 / 2.2));
    result = vec4(color + (noise(gl_FragCoord.xy) - 0.5) / 160.0, 1.0);
}"
);

/// Places one copy of a mesh in the world.
pub(super) const PLACED: &str = "#version 300 es
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in float tint;
layout(location = 3) in mat4 model;
layout(location = 7) in float shift;
uniform mat4 camera;
out vec3 world;
out vec3 facing;
out float shade;
void main() {
    vec4 at = model * vec4(position, 1.0);
    world = at.xyz;
    facing = mat3(model) * normal;
    shade = tint + shift;
    gl_Position = camera * vec4(at.xyz, 1.0);
}";

/// Key light with a sharp and a broad highlight, light from sky and floor, and a bright rim; below the
/// floor it is a reflection, which fades into the background with depth.
pub(super) const SURFACE: &str = concat!(
    backdrop!(),
    "uniform vec3 eye;
uniform vec2 size;
uniform float hue;
uniform float floor_height;
in vec3 world;
in vec3 facing;
in float shade;
out vec4 result;
vec3 palette(float at) { return 0.52 + 0.48 * cos(6.28318 * (at + vec3(0.0, 0.33, 0.67))); }
void main() {
    float below = floor_height - world.y;
    vec3 normal = normalize(facing);
    vec3 view = normalize(eye - world);
    if (dot(normal, view) < 0.0) normal = -normal;
    vec3 key = normalize(vec3(0.55, below > 0.0 ? -0.9 : 0.9, 0.65));
    vec3 base = pow(palette(hue + shade), vec3(1.7));
    float lit = max(dot(normal, key), 0.0);
    vec3 halfway = normalize(key + view);
    float gleam = max(dot(normal, halfway), 0.0);
    float fresnel = pow(1.0 - max(dot(normal, view), 0.0), 3.5);
    float up = normal.y * 0.5 + 0.5;
    vec3 sky = mix(vec3(0.10, 0.07, 0.12), vec3(0.30, 0.36, 0.48), up);
    vec3 color = base * (sky * 1.1 + lit * vec3(1.05, 0.98, 0.88));
    color += pow(gleam, 140.0) * 1.3 + pow(gleam, 16.0) * (base + 0.2) * 0.45;
    color += fresnel * (horizon * 1.2 + base * 0.5);
    color = color / (1.0 + color * 0.28);
    if (below > 0.0) color = mix(backdrop(gl_FragCoord.xy / size), color, 0.42 * exp(-below * 1.4));
    result = vec4(pow(clamp(color, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
}"
);
