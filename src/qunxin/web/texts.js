// Every text of the page, in English and Chinese.

const EN = {
  title: "Conversations", messages: "Messages", newTalk: "New conversation", signOut: "Sign out", language: "中文", api: "HTTP API",
  members: "Members", back: "Back to the conversations", close: "Close", send: "Send",
  write: "Write a message", writeTo: "Message to {name}", earlier: "Show earlier messages", newer: "New messages",
  connecting: "Connecting …", waiting: "No connection. It comes back by itself; what you write is kept.",
  nothingYet: "No conversations yet", nothingYetHint: "Create a group, or write to somebody.",
  pick: "Choose a conversation", pickHint: "Your messages are numbered, kept, and accounted for.",
  quietTalk: "Nothing has been said here yet.", you: "You", everyone: "everyone", broadcasts: "Announcements",
  private: "Private conversation", broadcast: "From the operator, to everyone",
  sending: "Sending …", queued: "Waits for the connection", partial: "Some members unreachable ({n} of {all})",
  whoGotIt: "Who got it", recall: "Recall", recallAgain: "Recall for everyone?", recalledBy: "{name} recalled a message",
  recalledMine: "You recalled a message", retry: "Try again", discard: "Discard", sendReachable: "Send to those who can be reached",
  created: "{by} created the group with {users}", createdAlone: "{by} created the group", comma: ", ", joined: "{by} added {users}", left: "{users} left", removed: "{by} removed {users}",
  erased: "The account of {users} was erased", changedName: "{by} named the group “{name}”", changed: "{by} changed the group's settings",
  changedMember: "{by} changed the role or the rights of {users}", dissolved: "{by} dissolved the group", more: "{n} more",
  hiddenRange: "Messages {first} to {last} are not yours to see: you were not in the group.", operator: "The operator",
  image: "Picture", file: "File", custom: "Attachment ({name})", replyTo: "In reply to message {n}",
  closedLeft: "You left this group. What was said before stays readable.", closedRemoved: "You were removed from this group. What was said before stays readable.",
  closedDissolved: "群组已解散 · This group has been dissolved.", closedErased: "You are no longer in this group.", closedBroadcast: "Only the operator writes here.",
  group: "Group", person: "Person", groupName: "Name", groupNameExample: "Tea friends", groupId: "Id", groupIdHint: "Letters, digits and . _ @ - only. It can never be changed.",
  firstMembers: "Members", membersHint: "User ids, separated by spaces", create: "Create the group", userId: "User id", startTalk: "Write to them",
  added: "Added: {users}.", notFound: "No account: {users}. 部分成员不可达 · The others were added.", already: "Already members: {users}.",
  addMembers: "Add members", add: "Add", remove: "Remove", removeAgain: "Remove {name}?", leave: "Leave the group", leaveAgain: "Really leave?",
  dissolve: "Dissolve the group", dissolveAgain: "For ever. Really?", owner: "owner", admin: "admin", muted: "muted", loadMore: "Show more",
  ledger: "Who got it", ledgerHint: "Delivered means proven by a device. It can lag by a few seconds.", ledgerRecalled: "Recalled: delivered means that a device has taken the message away.",
  delivered: "Delivered", read: "Read", queuedState: "Queued", unreachable: "Unreachable", nobody: "Nobody.",
  reason_not_found: "account gone", reason_suspended: "suspended", reason_blocked: "has blocked you", reason_unavailable: "unavailable",
  signInAs: "Sign in as {user}", signInHint: "This link signs this browser in, once.", signIn: "Sign in",
  newAccount: "Choose who you are", newAccountHint: "This link makes a new account, once.", displayName: "Name", displayNameExample: "Lin 🍵", yourId: "Id",
  signedOut: "You are signed out", signedOutHint: "One opens this page with a link that works once. Whoever runs this node makes it:",
  tryAgain: "Try again", signInAgain: "Sign in again",
  ended: "The connection has ended: {reason}.", endedHint: "What you wrote is kept in this browser.",
  endSuspended: "This account is suspended.", endErased: "This account has been erased.",
  endRevoked: "You have been signed out.", endOther: "Somebody else is signed in to this browser now.",
  closedEnd: "Nothing can be sent until you sign in again.", keptUnsent: "Not sent. Kept until you sign in again",
  signOutUnsent: "Messages and drafts that have not been sent: {n}. If you sign out, they are deleted from this browser.",
  signOutAnyway: "Sign out and delete them", stay: "Stay signed in",
  signOutOffline: "The node does not answer. Until it does, this browser stays signed in, in all its tabs, and what is kept here stays. Try again in a moment.",
  signOutRefused: "The node has not signed you out: {reason}. This browser stays signed in.",
  tooLong: "Too long by {n} bytes: a message holds {limit}. Shorten it, or send it in parts.", edit: "Edit",
  nowhere: "There is no such conversation", nowhereHint: "The page's address names none.",
  taken: "This id is taken. Choose another one, or ask for a link to it: qunxin link {user}", offline: "The node does not answer. Try again in a moment.",
  badLink: "This link has been used or is too old. Ask for a new one: qunxin link",
  adviceRetry: "Nothing was lost: try again.", adviceShrink: "Make it shorter.", adviceNew: "Nobody gets it. Start another group.",
  adviceOut: "Nobody gets it. Ask an owner to add you.", adviceMuted: "Nobody gets it. Ask an admin.", adviceUser: "Nobody gets it. Check the id.",
  adviceReach: "Nobody has got it. Look at the members, or send it to those who can be reached.", adviceNobody: "Nobody gets it.",
  groupTaken: "This id belongs to a group already. Choose another one.", failed: "That did not work: {reason}",
  unread: "{n} unread", actions: "For this message",
};

const ZH = {
  title: "会话", messages: "消息", newTalk: "新会话", signOut: "退出登录", language: "English", api: "HTTP API",
  members: "成员", back: "返回会话列表", close: "关闭", send: "发送",
  write: "写消息", writeTo: "发给{name}", earlier: "查看更早的消息", newer: "有新消息",
  connecting: "正在连接……", waiting: "连接已断开，会自动恢复；您写的内容不会丢失。",
  nothingYet: "还没有会话", nothingYetHint: "创建一个群组，或给某人写消息。",
  pick: "请选择一个会话", pickHint: "每条消息都有编号、已保存、有交代。",
  quietTalk: "这里还没有消息。", you: "我", everyone: "所有人", broadcasts: "公告",
  private: "私聊", broadcast: "来自运营者，发给所有人",
  sending: "正在发送……", queued: "等待连接", partial: "部分成员不可达（{all} 人中 {n} 人）",
  whoGotIt: "谁收到了", recall: "撤回", recallAgain: "对所有人撤回？", recalledBy: "{name} 撤回了一条消息",
  recalledMine: "您撤回了一条消息", retry: "重试", discard: "放弃", sendReachable: "只发给可达成员",
  created: "{by} 创建了群组，成员：{users}", createdAlone: "{by} 创建了群组", comma: "、", joined: "{by} 添加了 {users}", left: "{users} 已退出", removed: "{by} 移除了 {users}",
  erased: "{users} 的账号已注销", changedName: "{by} 将群名改为「{name}」", changed: "{by} 修改了群设置",
  changedMember: "{by} 修改了 {users} 的角色或权限", dissolved: "{by} 解散了群组", more: "等 {n} 人",
  hiddenRange: "第 {first} 至 {last} 条不对您开放：那时您不在群里。", operator: "运营者",
  image: "图片", file: "文件", custom: "附件（{name}）", replyTo: "回复第 {n} 条消息",
  closedLeft: "您已退出本群。之前的消息仍可阅读。", closedRemoved: "您已被移出本群。之前的消息仍可阅读。",
  closedDissolved: "群组已解散。", closedErased: "您已不在本群。", closedBroadcast: "只有运营者可以在这里发言。",
  group: "群组", person: "个人", groupName: "名称", groupNameExample: "茶友会", groupId: "编号", groupIdHint: "只能用字母、数字和 . _ @ -，之后不能修改。",
  firstMembers: "成员", membersHint: "用户编号，以空格分隔", create: "创建群组", userId: "用户编号", startTalk: "给对方写消息",
  added: "已添加：{users}。", notFound: "部分成员不可达：没有账号 {users}；其余已添加。", already: "已是成员：{users}。",
  addMembers: "添加成员", add: "添加", remove: "移除", removeAgain: "移除{name}？", leave: "退出群组", leaveAgain: "确定退出？",
  dissolve: "解散群组", dissolveAgain: "不可恢复，确定？", owner: "群主", admin: "管理员", muted: "已禁言", loadMore: "显示更多",
  ledger: "谁收到了", ledgerHint: "「已送达」由对方设备证明，可能延迟几秒。", ledgerRecalled: "消息已撤回：「已送达」表示设备已移除该消息。",
  delivered: "已送达", read: "已读", queuedState: "排队中", unreachable: "不可达", nobody: "没有人。",
  reason_not_found: "成员不存在", reason_suspended: "已停用", reason_blocked: "已将您屏蔽", reason_unavailable: "不可用",
  signInAs: "以 {user} 的身份登录", signInHint: "此链接只能让本浏览器登录一次。", signIn: "登录",
  newAccount: "您是谁？", newAccountHint: "此链接可创建一个新账号，仅限一次。", displayName: "名字", displayNameExample: "小林 🍵", yourId: "编号",
  signedOut: "您尚未登录", signedOutHint: "打开本页面需要一次性链接，由运行本节点的人生成：",
  tryAgain: "重试", signInAgain: "重新登录",
  ended: "连接已结束：{reason}。", endedHint: "您写的内容保存在本浏览器中。",
  endSuspended: "此账号已停用。", endErased: "此账号已注销。",
  endRevoked: "您已被退出登录。", endOther: "本浏览器已由他人登录。",
  closedEnd: "重新登录后才能发送。", keptUnsent: "未发送，保留到您重新登录",
  signOutUnsent: "尚未发送的消息和草稿：{n} 条。退出登录后将从本浏览器中删除。",
  signOutAnyway: "退出并删除", stay: "保持登录",
  signOutOffline: "节点没有响应。在此之前，本浏览器的所有标签页仍处于登录状态，保存的内容也会保留。请稍后重试。",
  signOutRefused: "节点未能将您退出登录：{reason}。本浏览器仍处于登录状态。",
  tooLong: "超出 {n} 字节：一条消息最多 {limit} 字节。请缩短，或分几条发送。", edit: "编辑",
  nowhere: "没有这个会话", nowhereHint: "页面地址未指向任何会话。",
  taken: "此编号已被使用。请换一个，或索取该账号的链接：qunxin link {user}", offline: "节点没有响应，请稍后重试。",
  badLink: "此链接已使用或已过期。请索取新的链接：qunxin link",
  adviceRetry: "没有丢失，请重试。", adviceShrink: "请缩短内容。", adviceNew: "没有人会收到。请另建群组。",
  adviceOut: "没有人会收到。请联系群主将您加入。", adviceMuted: "没有人会收到。请联系管理员。", adviceUser: "没有人会收到。请核对编号。",
  adviceReach: "没有人收到。请查看成员，或只发给可达成员。", adviceNobody: "没有人会收到。",
  groupTaken: "此编号已属于另一个群组，请换一个。", failed: "操作未成功：{reason}",
  unread: "{n} 条未读", actions: "对此消息",
};

const stored = localStorage.getItem("qunxin:language");

/** ``en`` or ``zh``: what was chosen, else what the browser prefers. */
export const language = stored ?? (/^zh\b/i.test(navigator.language) ? "zh" : "en");

/** A text in that language, its places in braces filled from `facts`. */
export function t(name, facts = {}) {
  const text = (language === "zh" ? ZH : EN)[name];
  return text.replace(/\{(\w+)\}/g, (_, place) => facts[place] ?? "");
}

/** Use the other language from now on. */
export function switchLanguage() {
  localStorage.setItem("qunxin:language", language === "zh" ? "en" : "zh");
  location.reload();
}

/** What somebody whose message was refused can do, by the refusal's number. */
const ADVICE = {
  1008: "adviceShrink", 1100: "adviceReach", 1101: "adviceUser", 1102: "adviceUser", 1104: "adviceOut", 1105: "adviceMuted",
  1106: "adviceNobody", 1200: "adviceNew", 1201: "adviceOut", 1202: "adviceMuted",
};
export const adviceFor = (code) => t(ADVICE[code] ?? (code >= 1300 || code === 0 ? "adviceRetry" : "adviceNobody"));

const locale = navigator.languages.find((tag) => tag.startsWith(language)) ?? language;
const short = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", weekday: "short" });
/** A number with its thousands set apart. */
export const count = (n) => n.toLocaleString(locale);
export const clockTime = (ms) => short.format(ms);
export const dayOf = (ms) => day.format(ms);
export const shortTime = (ms) => (dayOf(ms) === dayOf(Date.now()) ? clockTime(ms) : dayOf(ms));
