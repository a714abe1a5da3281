/** Shortnames people know from Slack and the characters they stand for. An unknown one stays as it was written. */
import { h } from "./dom.js";

const TABLE = `
+1 👍 thumbsup 👍 -1 👎 thumbsdown 👎 white_check_mark ✅ heavy_check_mark ✔️ ballot_box_with_check ☑️ x ❌ negative_squared_cross_mark ❎
warning ⚠️ rotating_light 🚨 no_entry ⛔ no_entry_sign 🚫 octagonal_sign 🛑 exclamation ❗ question ❓ bangbang ‼️ information_source ℹ️
eyes 👀 pray 🙏 clap 👏 raised_hands 🙌 wave 👋 muscle 💪 ok_hand 👌 point_up ☝️ point_right 👉 point_left 👈 point_down 👇 point_up_2 👆
raised_hand ✋ handshake 🤝 writing_hand ✍️ fist 👊 v ✌️ crossed_fingers 🤞 facepalm 🤦 shrug 🤷 see_no_evil 🙈 hear_no_evil 🙉 speak_no_evil 🙊
smile 😄 smiley 😃 grinning 😀 grin 😁 laughing 😆 joy 😂 rolling_on_the_floor_laughing 🤣 sweat_smile 😅 slightly_smiling_face 🙂 upside_down_face 🙃
wink 😉 blush 😊 innocent 😇 heart_eyes 😍 kissing_heart 😘 yum 😋 stuck_out_tongue 😛 stuck_out_tongue_winking_eye 😜 sunglasses 😎 nerd_face 🤓
star-struck 🤩 partying_face 🥳 smirk 😏 unamused 😒 disappointed 😞 pensive 😔 worried 😟 confused 😕 slightly_frowning_face 🙁 cry 😢 sob 😭
angry 😠 rage 😡 exploding_head 🤯 flushed 😳 scream 😱 fearful 😨 cold_sweat 😰 hugging_face 🤗 thinking_face 🤔 zipper_mouth_face 🤐
neutral_face 😐 expressionless 😑 grimacing 😬 rolling_eyes 🙄 sleeping 😴 sleepy 😪 mask 😷 face_with_monocle 🧐 saluting_face 🫡 melting_face 🫠
robot_face 🤖 ghost 👻 skull 💀 alien 👽 poop 💩 hankey 💩 clown_face 🤡 cat 🐱 dog 🐶 unicorn_face 🦄 bug 🐛 bee 🐝 turtle 🐢 snail 🐌 owl 🦉
heart ❤️ orange_heart 🧡 yellow_heart 💛 green_heart 💚 blue_heart 💙 purple_heart 💜 broken_heart 💔 sparkling_heart 💖 100 💯 fire 🔥 boom 💥
star ⭐ star2 🌟 sparkles ✨ zap ⚡ sunny ☀️ cloud ☁️ rainbow 🌈 snowflake ❄️ ocean 🌊 earth_africa 🌍 earth_americas 🌎 full_moon 🌕
tada 🎉 confetti_ball 🎊 balloon 🎈 gift 🎁 birthday 🎂 trophy 🏆 medal 🏅 first_place_medal 🥇 second_place_medal 🥈 third_place_medal 🥉 dart 🎯
rocket 🚀 airplane ✈️ car 🚗 bike 🚲 ship 🚢 construction 🚧 traffic_light 🚥 checkered_flag 🏁 triangular_flag_on_post 🚩 white_flag 🏳️ world_map 🗺️
hourglass ⌛ hourglass_flowing_sand ⏳ watch ⌚ alarm_clock ⏰ stopwatch ⏱️ timer_clock ⏲️ calendar 📅 date 📅 spiral_calendar_pad 🗓️ clock3 🕒
bulb 💡 mag 🔍 mag_right 🔎 lock 🔒 unlock 🔓 key 🔑 closed_lock_with_key 🔐 shield 🛡️ hammer 🔨 wrench 🔧 hammer_and_wrench 🛠️ gear ⚙️ nut_and_bolt 🔩
link 🔗 paperclip 📎 pushpin 📌 round_pushpin 📍 scissors ✂️ pencil 📝 memo 📝 pencil2 ✏️ lower_left_ballpoint_pen 🖊️ clipboard 📋 bookmark 🔖
book 📖 books 📚 notebook 📓 newspaper 📰 scroll 📜 page_facing_up 📄 page_with_curl 📃 file_folder 📁 open_file_folder 📂 card_index_dividers 🗂️
bar_chart 📊 chart_with_upwards_trend 📈 chart_with_downwards_trend 📉 abacus 🧮 straight_ruler 📏 triangular_ruler 📐 test_tube 🧪 microscope 🔬
computer 💻 desktop_computer 🖥️ keyboard ⌨️ printer 🖨️ floppy_disk 💾 cd 💿 iphone 📱 telephone_receiver 📞 battery 🔋 electric_plug 🔌 satellite 🛰️
inbox_tray 📥 outbox_tray 📤 package 📦 email 📧 envelope ✉️ mailbox 📫 speech_balloon 💬 thought_balloon 💭 mega 📣 loudspeaker 📢 bell 🔔 no_bell 🔕
moneybag 💰 dollar 💵 euro 💶 credit_card 💳 receipt 🧾 scales ⚖️ balance_scale ⚖️ shopping_cart 🛒 label 🏷️ ticket 🎫 art 🎨 camera 📷 movie_camera 🎥
coffee ☕ tea 🍵 beer 🍺 beers 🍻 pizza 🍕 cake 🍰 cookie 🍪 apple 🍎 banana 🍌 taco 🌮 popcorn 🍿 seedling 🌱 herb 🌿 deciduous_tree 🌳 cactus 🌵
arrow_up ⬆️ arrow_down ⬇️ arrow_left ⬅️ arrow_right ➡️ arrow_upper_right ↗️ arrow_lower_right ↘️ leftwards_arrow_with_hook ↩️ repeat 🔁
arrows_counterclockwise 🔄 arrows_clockwise 🔃 rewind ⏪ fast_forward ⏩ arrow_forward ▶️ double_vertical_bar ⏸️ black_square_for_stop ⏹️
red_circle 🔴 large_orange_circle 🟠 large_yellow_circle 🟡 large_green_circle 🟢 large_blue_circle 🔵 large_purple_circle 🟣 white_circle ⚪
black_circle ⚫ large_green_square 🟩 large_red_square 🟥 large_yellow_square 🟨 small_blue_diamond 🔹 small_orange_diamond 🔸
heavy_plus_sign ➕ heavy_minus_sign ➖ heavy_multiplication_x ✖️ heavy_division_sign ➗ infinity ♾️ copyright ©️ new 🆕 free 🆓 ok 🆗 cool 🆒 sos 🆘
zero 0️⃣ one 1️⃣ two 2️⃣ three 3️⃣ four 4️⃣ five 5️⃣ six 6️⃣ seven 7️⃣ eight 8️⃣ nine 9️⃣ keycap_ten 🔟 a 🅰️ b 🅱️ abc 🔤
mortar_board 🎓 school 🏫 student 🧑‍🎓 teacher 🧑‍🏫 technologist 🧑‍💻 detective 🕵️ crystal_ball 🔮 compass 🧭 puzzle_piece 🧩 game_die 🎲 joystick 🕹️
house 🏠 office 🏢 hospital 🏥 bank 🏦 factory 🏭 tent ⛺ brain 🧠 ear 👂 mute 🔇 sound 🔉 musical_note 🎵 guitar 🎸 drum_with_drumsticks 🥁
wastebasket 🗑️ recycle ♻️ broom 🧹 soap 🧼 ladder 🪜 toolbox 🧰 magnet 🧲 anchor ⚓ umbrella ☂️ crown 👑 gem 💎 ring 💍 egg 🥚 hatching_chick 🐣
`;

const UNICODE = new Map();
const words = TABLE.trim().split(/\s+/);
for (let at = 0; at + 1 < words.length; at += 2) UNICODE.set(words[at], words[at + 1]);

/** What the small picker offers first. */
export const FAVOURITES = ["+1", "-1", "white_check_mark", "eyes", "tada", "thinking_face", "heart", "pray"];

/** The character of a shortname, or undefined. A skin tone after it is dropped. */
export const characterOf = (name) => UNICODE.get(name.split("::")[0]);

/** An emoji, or `:its_name:` where it is not known here. */
export function emoji(name) {
  const character = characterOf(name);
  if (!character) return `:${name}:`;
  return h(
    "span",
    { class: "emoji", role: "img", "aria-label": name.replaceAll("_", " "), title: `:${name}:` },
    character,
  );
}

/** Shortnames that contain `part`, those that begin with it first; one name for each character. */
export function findEmoji(part, most = 48) {
  const found = part
    ? [...UNICODE.keys()].filter((name) => name.includes(part))
    : [...FAVOURITES, ...UNICODE.keys()];
  if (part)
    found.sort((a, b) => Number(b.startsWith(part)) - Number(a.startsWith(part)) || a.length - b.length);
  const characters = new Set();
  const isFirst = (name) => characters.size < characters.add(UNICODE.get(name)).size;
  return found.filter(isFirst).slice(0, most);
}
