"""Words around names: which names are words of the language as well, and which words speak of a person (data)."""

_COMMON = """
    abbot able ada alexa amber angel apache april archer art arts ash athena august austin autumn bach bailey baker
    ball banks barber basil bates bay bear bell benz best bill bird bishop bit black bliss bloom blue bob boeing bolt
    bond booker booth bose bowman bradley brand braun bridge bright brook brooks brown buck bud burger burns bush
    butler cable cadbury campbell candy care carol carpenter carrier carter case cash cassandra chad chan chance
    chapel charity charm chase chelsea cherry chester chevy china chip christian church claude clay cliff close cloud
    coach code coin cole colt cone cook cooper cortana cotton court crane crew crisp cross cruz crystal cuba curry
    curt cyan daisy dale dallas dart dash data dawn day deacon dean dell denver diamond dick dodge dollar don door dot
    dove drake draper drew dubai duke duncan dyson earl early east ebony eden edge element ember english eve ever
    fable fair faith falcon fern field fields fig finch fish fisher fleet flint flora florence flow flower ford forest
    foster fox foxy france francs frank french frost gage galaxy gale gallo gap garden gates gem gene genesis georgia
    german gift gill ginger glad glass glen globe gold good grace grand granger grant graves gray green grey grove
    gull gunner guy hale hall ham harbor harmony harp harper harry hart hawk hawthorn hay hayes hazel head heart heath
    heather heinz helm helper hero hershey hill hills hilton holiday holland holly home honda honey hood hook hope
    horn host house houston hub hudson huff hunt hunter ice imagine india ink innocent ireland iris iron israel ivory
    ivy jack jade jasmine jasper java jay jazz jean jenkins jersey jet jets jewel jimmy job joint joke jordan journey
    joy jules julia june juniper justice kay kenya key keys king kit kitty knight knot kraft lake lamb lance land lane
    lark laurel lauren law leaf lee legend lemon levi liberty lily lincoln link list little lock london long loop lord
    lotus love low loyal luck lucky luna lynx lyric madison mae magic main major mallory manor map maple marble march
    mark marks mars marsh marshal marshall martin mason mattel max may mead meadow melody mercedes mercury mercy merit
    micro mike milan miles mill miller mills mint mist misty monday monk moody moon moral more morgan moses moss
    mountain myth nation nelson neo nest nestle net nick night nintendo noble noel noon north nova oak oasis ocean odd
    office old olive onyx opal oracle orange otis pace pack paddy page paige palm paris park parker parks pascal pat
    patch patience peace peach pearl penny pepper piano pierce pike pilot pin pine pink piper plum poet pole polo pond
    poole pope poppy porsche porter post potter power powers precious presley price pride priest prince princess prior
    prize prudence python queen quick quill quinn rae rain rally ranger rapid raven ray reach read red reed reef regal
    remedy render rhodes rice rich ridge rio river rivers rob robin rock rocky rod roman rome root rose rosemary ross
    rover rowan rows royal ruby rush russell rust rusty sage sailor sales salt sandy savage savannah sawyer scarlet
    scott scout script seal sears season sell serenity shade sharp shell shepherd sherry shire shore short siemens
    sierra silver singer siri skill skip sky slack sleet sloan small smart smith snow solo song sonny south spark
    sparrow spear speed spencer spring spruce stack stacks star stark steel step sterling stone storm street strong
    sue sugar summer sun sunday sunny support suzuki swan sweet swift sydney tab tailor tanner tate taylor tea teal
    team tee temple terry tesla test thorn tide tiger tim timber time token tom topaz tori tower town toyota trace
    tracy travis treasure trinity trip true tucker tulip turner tyler tyson ula union unity urban vale valentine van
    vance velvet venus vera verity verona victor victory vienna vine viola violet virginia vision wade waiter walker
    wall wallace ward warden waters watt wave way weaver web webb wells wendy west wheat white wilder will willow
    winner winston winter wisdom wise wolf wood woodland woods worth wren wright yellow york young zed zen zone
"""
_ORDINARY = """
    action active agent alert all alpha analyst answer any app area asset auto back backup bank base basic beta big board
    body book boot boss box boxer break browser budget build builder business button buyer call camera captain car catalog
    center centre chain champion change channel charge chat check chief child choice city class clean clear click clock
    code color colour command comment commit common compute computer concierge config connect contract control copy core
    corner country course cover creative credit crown current custom customer cycle daily database date dear deep default
    demo design device digital direct door double down draft dream drive driver dummy easy editor eight email empty end
    energy enterprise entry error event everyone example extra eye face factory fast father fault feature feedback file
    final finance fire first five fix flash focus folder food foo four frame free friend front full fun future game
    general ghost global go great ground group grow guide hand happy hard health hello help hi high history hot hotel
    house human idea image impact inbox info inside insight intern internal invoice issue item job keeper kind king
    kitchen knowledge lab lady language laptop large last launch layer leader learn left lesson letter level life light
    limit line live load local logic login look machine mail main man manual market math media medic member memory men
    menu merge message meta meter method metric middle mind mini mobile mode model modern money monitor month more mother
    mouse movie music my name network new news next nobody node none note notes novel number object offer offline one
    only open option order order other out outside own owner package page paint paper parent part partner pass past path
    pay payment people phone photo picture place plan planet plant plate platform play player plus point policy pool post
    power press prime print printer private pro problem process product profile program progress project proof public
    pull pulse push quality question queue quiet quota race radio random rank rate rating ready real record recovery
    release remote report request reset rest result return review right robot rocket role room round route row rule run
    safe sample scan schedule school science scope screen search second secret section secure security select self send
    senior sense sequence serial series server service session set setting shadow share sheet shift shop show side sign
    signal simple single site six size sleep slim slow snap social soft software someone source space special sport
    spot staging standard start state station status stay stop storage store story student studio style subject success
    switch sync table tag talk target task teach tech temp template ten text thanks thing think third three ticket
    to today tool top total touch track trade traffic trail train training transfer tree trend trial turn two type under
    unit up update upgrade upload urgent use value vault version video view virtual visit visitor voice vote watch water
    web week welcome window winner wire wonder word work world write year yes you zero
    abteilung allgemein alle anfrage buchhaltung chef einkauf empfang firma fragen gast geschäft kasse kunde lager
    leiter neu post praxis schule technik termin vertrieb verwaltung werkstatt zentrale
"""
COMMON = frozenset([*_COMMON.split(), *_ORDINARY.split()])
"""Names that are words, months, places or products as well, in small letters: a member called so is found by what stands
around it. More of them cost little; one that is missing strikes itself out of ordinary sentences."""

_ROLES = """
    account accounts admin administration administrator admins agent announcements anonymous api apprentice assistant
    automation billing board bot bots buildbot calendar channel client consultant contact coordinator customer demo
    dev developer developers devops dummy engineer engineering everyone expert experts facilities finance frontend
    backend group guest guests help helpdesk helper here hr info integration intern it jenkins legal lead maintainer
    manager marketing member members moderator monitoring news noreply nobody office operations operator operator ops
    owner payroll people procurement product qa reception recruiting reporter reviewer robot root sales sandbox
    scheduler security server service slackbot someone staff staging student super superuser supervisor support sysadmin
    sysop system team tech tester test tests trainer user users vendor webmaster workflow
    administrateur administrador invité usuario utilisateur benutzer entwickler gast kundendienst personal verwaltung
"""
ROLES = frozenset(_ROLES.split())
"""What people do, and accounts of nobody: as a name it says who somebody is only after an @."""

_ARTICLES = """
    a an another any both der die das each every her his its la le les my no one our some that the their these this those
    un una une which your
"""
ARTICLES = frozenset(_ARTICLES.split())
"""After these comes a thing, if the word means one: the Grace, a Mark, your Will."""

_PARTICLES = """
    al bin bint da das de del della den der di do dos du el ibn la le los mc o ten ter van von y zu zum zur
"""
PARTICLES = frozenset(_PARTICLES.split())
"""What stands inside a name and is none."""

_TITLES = """
    dr frau herr jr md mr mrs ms phd prof sir sr
"""
TITLES = frozenset(_TITLES.split())
"""What stands before a name and is none."""

_DAYS = """
    april august june march may monday sunday
"""
DAYS = frozenset(_DAYS.split())
"""Capitalised words of the calendar that are names too."""

_BEFORE = """
    ask asked asking boss called cc colleague contact contacted coworker dear dr hello hey hi manager meeting met miss
    mr mrs ms named ping pinged teammate tell thank thanks told
"""
BEFORE = frozenset(_BEFORE.split())
"""After these comes somebody."""

_NEAR = """
    and by call email emailed for from help invite invited know knows let message messaged saw see to with
"""
NEAR = frozenset(_NEAR.split())
"""After these may come somebody: a word that starts no sentence has to be capitalised as well."""

_AFTERWARDS = """
    approved asked can confirmed could did does doesn't had has is isn't joined knows left may mentioned replied
    reported said says should suggested thinks told wanted wants was wasn't will worked works would writes wrote
"""
AFTERWARDS = frozenset(_AFTERWARDS.split())
"""Somebody does or is this."""

_SPOKE = """
    asked mentioned replied said suggested thinks told wants wrote
"""
SPOKE = frozenset(_SPOKE.split())
"""Only somebody does this, also where the name starts the sentence."""
